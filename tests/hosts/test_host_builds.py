"""Builds are shared by test sessions: none sees one that is not whole, and none loses what it runs."""

import subprocess

import host_builds
import pytest

PROJECT = "cmake_minimum_required(VERSION 3.18)\nproject(small C)\nadd_executable(small small.c)\n"
PROGRAM = '#include <stdio.h>\nint main(void) { puts("%s"); return 0; }\n'


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    folder = tmp_path / "small project"
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(PROJECT)
    (folder / "small.c").write_text(PROGRAM % "first")
    return folder


def build(project):
    return host_builds._build(project, None, ()) / "small"


def test_changed_sources_are_built_beside_what_another_session_runs(project):
    first = build(project)
    built = first.stat().st_mtime_ns
    (project / "small.c").write_text(PROGRAM % "second")
    second = build(project)
    assert [subprocess.check_output([path], timeout=60) for path in (first, second)] == [b"first\n", b"second\n"]
    (project / "small.c").write_text(PROGRAM % "first")
    assert build(project) == first and first.stat().st_mtime_ns == built


def test_a_build_that_fails_leaves_nothing_that_is_taken_for_one(project):
    (project / "small.c").write_text("no program")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="error:"):
            build(project)
    (project / "small.c").write_text(PROGRAM % "third")
    assert subprocess.check_output([build(project)], timeout=60) == b"third\n"


def test_sources_that_change_under_the_compiler_are_not_kept(project, monkeypatch):
    compile_project = host_builds._output

    def edited_meanwhile(command, directory):
        (project / "small.c").write_text(PROGRAM % len(command))
        return compile_project(command, directory)

    monkeypatch.setattr(host_builds, "_output", edited_meanwhile)
    with pytest.raises(RuntimeError, match="run again"):
        build(project)
    assert not [path for path in host_builds.cache_folder().iterdir() if path.name.startswith("small project-release-")]
