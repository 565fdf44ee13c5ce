"""The campaign of damaged files: its short form passes, and whatever it looks for is counted as a failure."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "fuzz_shards.py"
NUMBER = 6  # mutations of a campaign that is to fail


@pytest.fixture(scope="module")
def fuzz_shards():
    spec = importlib.util.spec_from_file_location("fuzz_shards", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_with(fuzz_shards, tmp_path, monkeypatch, capsys):
    """run_with(reader) -> (exit code, output, files kept) of a short campaign with this reader alone."""

    def run(reader):
        monkeypatch.setattr(fuzz_shards, "READERS", {"ours": reader})
        monkeypatch.setattr(fuzz_shards, "OPERATIONS", (fuzz_shards.flip,))  # never without effect
        for name in ("campaign", "kept"):
            (tmp_path / name).mkdir()
        code = fuzz_shards.run_campaign(range(NUMBER), tmp_path / "campaign", tmp_path / "kept")
        return code, capsys.readouterr().out, sorted(path.name for path in (tmp_path / "kept").iterdir())

    return run


def when_damaged(act):
    """A reader that returns the same digest as long as the files are what it saw first, and then does `act`."""
    whole = {}  # filled in the process that reads: every one starts from whole files

    def reader(directory):
        content = {path.name: path.read_bytes() for path in directory.iterdir()}
        if not whole:
            whole.update(content)
        return "digest" if content == whole else act()

    return reader


def raise_value_error():
    raise ValueError("cannot reshape")


def test_the_short_form_finds_nothing():
    result = subprocess.run(
        [sys.executable, str(SCRIPT), "--mutations", "400"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    heading, *rows = [line for line in result.stdout.splitlines()[1:] if line and "mutations" not in line]
    assert heading.split() == ["damage", "reader", "refused", "same", "numbers"]
    cells = [row.split() for row in rows]
    assert {(operation, place, reader) for operation, place, reader, *_ in cells} == {
        (operation, place, reader)
        for operation in ("flip", "splice", "truncate")
        for place in ("catalogue", "shard")
        for reader in ("verified", "unverified", "streamed")
    }
    assert sum(int(count) for row in cells for count in row[3:]) == 3 * 400
    # A checksum of the whole file leaves no flipped bit unseen; a splice or a zeroed end may have changed none.
    assert [row[4] for row in cells if row[:3] == ["flip", "shard", "verified"]] == ["0"]
    assert "400 mutations" in result.stdout and "0 neither refused nor harmless" in result.stdout


@pytest.mark.parametrize(
    ("act", "outcome", "reader"),
    [
        (lambda: "another digest", "OTHER NUMBERS", "ours"),
        (raise_value_error, "EXCEPTION Traceback", "ours"),
        (lambda: os.kill(os.getpid(), 9), "CRASH SIGKILL", "any"),
        (lambda: os._exit(3), "CRASH exit code 3", "any"),
    ],
    ids=["another digest", "another exception", "a signal", "the end"],
)
def test_what_is_neither_refused_nor_harmless_is_a_failure_and_is_kept(fuzz_shards, run_with, act, outcome, reader):
    code, output, kept = run_with(when_damaged(act))
    assert code == 1
    assert f"{NUMBER} mutations" in output and f"{NUMBER} neither refused nor harmless" in output
    assert f"mutation 0: flip of {kept[0][2:]}, {reader}: {outcome}" in output
    assert output.count(f", {reader}: {outcome}") == NUMBER == len(kept)


def test_a_reader_that_hangs_is_a_failure_and_the_rest_goes_on(fuzz_shards, run_with, monkeypatch):
    monkeypatch.setattr(fuzz_shards, "HANG", 0.5)
    code, output, kept = run_with(when_damaged(lambda: time.sleep(60)))
    assert code == 1
    assert output.count(", any: HANG") == NUMBER == len(kept)


def test_an_error_message_of_several_lines_is_a_failure(fuzz_shards, run_with):
    def act():
        raise fuzz_shards.HpcsurrogateError("first line\nsecond line")

    assert run_with(when_damaged(act))[0] == 1


def test_readers_that_notice_everything_pass(fuzz_shards, run_with):
    def act():
        raise fuzz_shards.HpcsurrogateError("damaged")

    code, output, kept = run_with(when_damaged(act))
    assert (code, kept) == (0, [])
    assert f"{NUMBER} mutations" in output


def test_a_mutation_is_a_function_of_its_number_and_a_kept_file_is_its_result(fuzz_shards, run_with, tmp_path):
    _, _, kept = run_with(when_damaged(lambda: "another digest"))
    originals = {path.name: path.read_bytes() for path in (tmp_path / "campaign" / "whole").iterdir()}
    for number, name in enumerate(kept):
        file, _, content = fuzz_shards.mutate(originals, number)
        assert name == f"{number}-{file}" and content != originals[file]
        assert (tmp_path / "kept" / name).read_bytes() == content
