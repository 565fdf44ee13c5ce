"""The campaign of damaged artifacts: its short form passes, and whatever it looks for is counted as a failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "scripts"
NUMBER = 24  # mutations of a campaign that is to fail


@pytest.fixture(scope="module")
def fuzz_artifacts():
    sys.path.insert(0, str(SCRIPTS))
    import fuzz_artifacts

    yield fuzz_artifacts
    sys.path.remove(str(SCRIPTS))


def test_the_short_form_finds_nothing():
    result = subprocess.run(
        [sys.executable, str(SCRIPTS / "fuzz_artifacts.py"), "--mutations", "150", "--batch", "80"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "150 mutations" in result.stdout and " 0 loaded and answered differently" in result.stdout
    rows = [
        line.split()
        for line in result.stdout.splitlines()
        if line.startswith(("file", "checksum", "entries", "forged"))
    ]
    refused = {kind: sum(int(row[2]) for row in rows if row[0] == kind) for kind in {row[0] for row in rows}}
    assert set(refused) == {"file", "checksum", "file+checksum", "entries", "forged"}
    assert all(refused.values())


def test_each_mutation_is_a_function_of_its_number_and_all_kinds_are_made(fuzz_artifacts, tmp_path):
    fuzz_artifacts.write_artifact(tmp_path / "model.pt", fuzz_artifacts.good_artifact())
    content, manifest = ((tmp_path / name).read_bytes() for name in ("model.pt", "model.pt.sha256"))
    made = [fuzz_artifacts.mutate(content, manifest, number) for number in range(200)]
    assert made[:20] == [fuzz_artifacts.mutate(content, manifest, number) for number in range(20)]
    assert len({(kind, operation) for kind, operation, *_ in made}) == 3 * 4 + 2 * 7
    for kind, _, damaged, damaged_manifest in made:
        if kind == "file":
            assert damaged_manifest == manifest
        if kind == "checksum":
            assert damaged == content


@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        (lambda: "another digest", "OTHER NUMBERS"),
        (lambda: [][0], "EXCEPTION Traceback"),
        (lambda: os.kill(os.getpid(), 9), "CRASH SIGKILL"),
    ],
    ids=["other numbers", "exception", "crash"],
)
def test_what_must_not_happen_is_counted_and_kept(fuzz_artifacts, tmp_path, monkeypatch, capsys, act, outcome):
    whole = []  # filled in the process that loads: each one starts from whole files

    def answers(path):
        content = path.read_bytes()
        if not whole:
            whole.append(content)
        return "digest" if content == whole[0] else act()

    monkeypatch.setattr(fuzz_artifacts, "answers", answers)
    code = fuzz_artifacts.run_campaign(range(NUMBER), NUMBER, tmp_path)
    output = capsys.readouterr().out
    assert code == 1 and outcome in output
    failures = int(output.splitlines()[-1].split(": ")[1].split()[0])
    assert failures == len(list(tmp_path.glob("*.pt"))) > NUMBER // 5
