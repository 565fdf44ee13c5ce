"""From an exception to one line on stderr and an exit code."""

import errno
import os
import re
import sys
import time
import traceback

import click

from hpcsurrogate.core.errors import ConfigError, DataError, HpcsurrogateError

FAULT = 1
INTERRUPTED = 130
WAIT_FOR_SPEAKER = 2.0  # [s]

FREE_SPACE = "free some or set another run_dir"
LOOK_AT_DISK = "look at the system's log, or set a run_dir on another disk"
DISK_FAULTS = {
    errno.ENOSPC: ("no space left on the disk", FREE_SPACE),
    errno.EDQUOT: ("the quota of the disk is used up", FREE_SPACE),
    errno.EFBIG: ("larger than files may be here", "raise `ulimit -f` or set another run_dir"),
    errno.EIO: ("the disk could not read or write", LOOK_AT_DISK),
    errno.ESTALE: ("the file system lost sight of the file", LOOK_AT_DISK),
}

# The words of torch on CPU and on CUDA; then the size in theirs and in numpy's, a number and its unit.
OUT_OF_MEMORY = re.compile(r"can't allocate memory|out of memory", re.IGNORECASE)
SIZE_ASKED_FOR = re.compile(r"(?:tried|unable) to allocate ([\d.]+) ?(\w+)", re.IGNORECASE)
LESS_MEMORY = "lower the batch_size or raise train.accumulate, start fewer ranks on a node, or take a smaller grid"


def explain(error: BaseException) -> tuple[str | None, int]:
    """Return the line for the user and the exit code.

    Returns
    -------
    str or None    None if this is a fault of the program, whose traceback is what helps
    int            exit code
    """
    if isinstance(error, HpcsurrogateError):
        return str(error), error.exit_code
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        usage = f"; see `{context.command_path} --help`" if context else ""
        return error.format_message().rstrip(".") + usage, ConfigError.exit_code
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return "interrupted; run the same command to go on", INTERRUPTED
    where = getattr(error, "filename", None)
    place = f"{where}: " if where else ""
    # HDF5, safetensors and torch wrap the system's error in exceptions of their own, but keep its words.
    for number, (what, remedy) in DISK_FAULTS.items():
        if _number(error) == number or os.strerror(number) in str(error):
            return f"{place}{what} ({errno.errorcode[number]}); {remedy}", DataError.exit_code
    if where and _number(error) in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}: {error.strerror}; set a run_dir that you may write to", DataError.exit_code
    by_torch = isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error))
    if isinstance(error, MemoryError) or _number(error) == errno.ENOMEM or by_torch:
        return _out_of_memory(str(error)), ConfigError.exit_code
    return None, FAULT


def _out_of_memory(words: str) -> str:
    """Name the size that was asked for, where the allocator said it."""
    asked_for = SIZE_ASKED_FOR.search(words)
    size = ""
    if asked_for:
        amount, unit = asked_for.groups()
        size = f": {float(amount) / 2**30:.4g} GiB" if unit == "bytes" else f": {amount.rstrip('.')} {unit}"
        size += " were asked for at once"
    return f"out of memory{' of the GPU' if 'CUDA' in words else ''}{size}; {LESS_MEMORY}"


def _number(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def report_error(error: BaseException, rank: int, size: int) -> int:
    """Print what happened, with the rank when there are several, and return the exit code.

    Of an error that one rank met and all raise, that rank alone speaks.
    """
    line, exit_code = explain(error)
    speaker = getattr(error, "from_rank", None)
    if speaker not in (None, rank):
        time.sleep(WAIT_FOR_SPEAKER)  # all ranks have this error: the one that met it says so, and ends all
        return exit_code
    place = f"rank {rank}: " if size > 1 else ""
    if line is None:
        traceback.print_exception(error)
        line = f"a fault of the program ({type(error).__name__}); please report it with the lines above"
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(line.split()))  # of any file's names
    print(f"hpcsurrogate: error: {place}{line}", file=sys.stderr, flush=True)
    return exit_code
