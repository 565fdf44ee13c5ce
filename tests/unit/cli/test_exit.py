import errno
import shlex
import subprocess
import sys

import click
import numpy as np
import pytest
import torch

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


def test_letters_that_would_move_the_cursor_are_not_printed(capsys):
    report_error(errors.DataError("\x1b[2Ja\u202eb.pt: is missing"), 0, 1)
    assert capsys.readouterr().err == "hpcsurrogate: error: ?[2Ja?b.pt: is missing\n"


def test_of_an_error_that_all_ranks_raise_the_one_that_met_it_speaks(capsys, monkeypatch):
    monkeypatch.setattr("hpcsurrogate.cli.exit.WAIT_FOR_SPEAKER", 0.0)
    error = errors.DataError("damaged")
    error.from_rank = 1
    assert [report_error(error, rank, 3) for rank in range(3)] == [3, 3, 3]
    assert capsys.readouterr().err == "hpcsurrogate: error: rank 1: damaged\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/a"), "/data/a: no space left on the disk (ENOSPC); "),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded", "/data/a"),
            "/data/a: the quota of the disk is used up (EDQUOT); ",
        ),
        (
            OSError(errno.EIO, "Input/output error", "/data/a"),
            "/data/a: the disk could not read or write (EIO); look at ",
        ),
        (OSError(errno.EFBIG, "File too large"), "larger than files may be here (EFBIG); raise `ulimit -f` or "),
        (
            RuntimeError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"),
            "no space left on the disk (ENOSPC); free some or set another run_dir",
        ),
    ],
)
def test_a_fault_of_the_disk_is_one_line(error, line):
    said, exit_code = explain(error)
    assert said.startswith(line) and exit_code == 3


def test_a_disk_that_is_really_full():
    """/dev/full refuses every byte with the system's own error."""
    command = f"{shlex.quote(sys.executable)} -m hpcsurrogate config schema > /dev/full"
    finished = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert finished.returncode == 3
    assert finished.stderr.splitlines()[0].startswith("hpcsurrogate: error: no space left on the disk")


def test_folder_without_permission_is_one_line():
    line, exit_code = explain(PermissionError(errno.EACCES, "Permission denied", "/root/run"))
    assert line == "/root/run: Permission denied; set a run_dir that you may write to" and exit_code == 3


@pytest.mark.parametrize(
    ("allocate", "size"),
    [
        (lambda: torch.empty(10**14), ": 3.725e+05 GiB were asked for at once"),
        (lambda: np.empty(10**14), ": 728 TiB were asked for at once"),
        (lambda: bytearray(10**17), ""),
    ],
)
def test_memory_that_really_runs_out_is_one_line_with_the_size_that_was_asked_for(allocate, size):
    """More than the address space of a process: refused whatever the machine has, by torch, numpy and Python."""
    with pytest.raises((MemoryError, RuntimeError)) as refused:
        allocate()
    line, exit_code = explain(refused.value)
    assert line.startswith(f"out of memory{size}; lower the batch_size") and exit_code == 2


def test_memory_of_a_gpu_that_runs_out_is_one_line_with_the_size_that_was_asked_for():
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.26 GiB. GPU 0 has a total capacity of 6 GiB"
    )
    line, exit_code = explain(error)
    assert line.startswith("out of memory of the GPU: 2.26 GiB were asked for at once; lower") and exit_code == 2


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
