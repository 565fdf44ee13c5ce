"""The native sources as a user gets them: in the wheel, found by `hpcsurrogate cmake-dir`, or told what is missing."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from hpcsurrogate.embed.cmake_dir import cmake_dir

TREE = Path(__file__).resolve().parents[2]
NATIVE = TREE / "hpcsurrogate/embed/native"
PROJECT = """
cmake_minimum_required(VERSION 3.18)
project(host {languages})
find_package(hpcsurrogate REQUIRED)
"""


def configure(folder: Path, languages: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "CMakeLists.txt").write_text(PROJECT.format(languages=languages))
    command = ["cmake", "-S", str(folder), "-B", str(folder / "build"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_cmake_dir_is_two_folders_and_says_nothing_else():
    command = [sys.executable, "-m", "hpcsurrogate", "cmake-dir"]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == ""
    native, torch_cmake = done.stdout.removesuffix("\n").split(";")
    assert Path(native) == NATIVE and Path(torch_cmake) == Path(torch.utils.cmake_prefix_path)
    assert cmake_dir() == f"{native};{torch_cmake}"


def test_every_native_source_travels_in_the_wheel(tmp_path):
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(copy_of_tree(tmp_path))]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(file.relative_to(TREE)) for file in NATIVE.rglob("*") if file.is_file()}
    assert len(sources) > 20 and sources <= packed


def copy_of_tree(tmp_path: Path) -> Path:
    """What a build needs, elsewhere: setuptools writes beside the sources."""
    target = tmp_path / "tree"
    target.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        (target / name).write_bytes((TREE / name).read_bytes())
    (target / "hpcsurrogate").symlink_to(TREE / "hpcsurrogate")
    return target


@pytest.mark.parametrize(
    ("languages", "prefix", "words"),
    [
        ("C", cmake_dir(), "add CXX to the languages of project()"),
        ("CXX", str(NATIVE), "hpcsurrogate: no LibTorch in CMAKE_PREFIX_PATH"),
    ],
)
def test_what_is_missing_is_named(languages, prefix, words, tmp_path):
    done = configure(tmp_path, languages, f"-DCMAKE_PREFIX_PATH={prefix}")
    assert done.returncode != 0 and words in " ".join(done.stderr.split())


def test_a_project_may_look_for_it_twice(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part/CMakeLists.txt").write_text("find_package(hpcsurrogate REQUIRED)\n")
    done = configure(tmp_path, "CXX)\nadd_subdirectory(part", f"-DCMAKE_PREFIX_PATH={cmake_dir()}")
    assert done.returncode == 0 and done.stderr == "", done.stderr
