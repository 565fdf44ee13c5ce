"""From an exception to one line on stderr and an exit code."""

import errno
import sys
import time
import traceback

import click

from hpcsurrogate.core.errors import ConfigError, DataError, HpcsurrogateError

FAULT = 1
INTERRUPTED = 130
WAIT_FOR_SPEAKER = 2.0  # [s]
FULL_DISK = "No space left on device"


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
    if FULL_DISK in str(error) or _number(error) in (errno.ENOSPC, errno.EDQUOT):
        return f"{place}no space left on the disk; free some or set another run_dir", DataError.exit_code
    if _number(error) == errno.EFBIG:
        return f"{place}larger than files may be here; raise `ulimit -f` or set another run_dir", DataError.exit_code
    if where and _number(error) in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}: {error.strerror}; set a run_dir that you may write to", DataError.exit_code
    return None, FAULT


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
    print(f"hpcsurrogate: error: {place}{' '.join(line.split())}", file=sys.stderr, flush=True)
    return exit_code
