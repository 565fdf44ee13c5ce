import errno
import shlex
import subprocess
import sys

import click
import pytest

from hpcsurrogate.cli.exit import explain, report_error
from hpcsurrogate.core import errors


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (errors.HpcsurrogateError, 1),
        (errors.ConfigError, 2),
        (errors.ShapeError, 2),
        (errors.DataError, 3),
        (errors.DivergedError, 4),
        (errors.ModelRefusedError, 5),
        (errors.RankLostError, 6),
        (errors.RequeueRequested, 75),
    ],
)
def test_each_error_has_its_code_and_no_traceback(capsys, kind, exit_code):
    assert report_error(kind("what, where, what to do"), 0, 1) == exit_code
    assert capsys.readouterr().err == "hpcsurrogate: error: what, where, what to do\n"


def test_several_ranks_are_named_and_lines_are_joined(capsys):
    report_error(errors.DataError("first\n  second"), 3, 4)
    assert capsys.readouterr().err == "hpcsurrogate: error: rank 3: first second\n"


def test_of_an_error_that_all_ranks_raise_the_one_that_met_it_speaks(capsys, monkeypatch):
    monkeypatch.setattr("hpcsurrogate.cli.exit.WAIT_FOR_SPEAKER", 0.0)
    error = errors.DataError("damaged")
    error.from_rank = 1
    assert [report_error(error, rank, 3) for rank in range(3)] == [3, 3, 3]
    assert capsys.readouterr().err == "hpcsurrogate: error: rank 1: damaged\n"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/data/raw.hdf5"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "/data/raw.hdf5"),
        RuntimeError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"),
    ],
)
def test_full_disk_is_one_line(error):
    line, exit_code = explain(error)
    assert "no space left on the disk" in line and exit_code == 3


def test_a_disk_that_is_really_full():
    """/dev/full refuses every byte with the system's own error."""
    command = f"{shlex.quote(sys.executable)} -m hpcsurrogate config schema > /dev/full"
    finished = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert finished.returncode == 3
    assert finished.stderr.splitlines()[0].startswith("hpcsurrogate: error: no space left on the disk")


def test_folder_without_permission_is_one_line():
    line, exit_code = explain(PermissionError(errno.EACCES, "Permission denied", "/root/run"))
    assert line == "/root/run: Permission denied; set a run_dir that you may write to" and exit_code == 3


def test_usage_and_interrupt():
    assert explain(click.UsageError("No such option.")) == ("No such option", 2)
    assert explain(KeyboardInterrupt())[1] == 130


def test_a_fault_of_the_program_shows_its_traceback(capsys):
    try:
        raise KeyError("x")
    except KeyError as error:
        assert report_error(error, 0, 1) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and err.splitlines()[-1].startswith(
        "hpcsurrogate: error: a fault of the program (KeyError)"
    )
