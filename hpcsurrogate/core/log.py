"""Logging of all rooms: rank 0 speaks, other ranks only warn, and every line names its rank when there are several."""

import logging
import sys

ROOT = "hpcsurrogate"


def get_logger(name: str) -> logging.Logger:
    """Return the logger of one room, given its name ("train") or the `__name__` of a module in it.

    Below warnings it is silent until `setup_logging` was called once.
    """
    room = name.removeprefix(f"{ROOT}.").split(".")[0]
    return logging.getLogger(f"{ROOT}.{room}")


def setup_logging(rank: int = 0, size: int = 1, verbose: bool = False) -> None:
    """Send log lines to stderr; called once by the command line.

    Parameters
    ----------
    rank : int        this process; ranks above 0 print warnings and errors only
    size : int        number of ranks; with several, every line starts with its rank
    verbose : bool    print debug lines of rank 0 too
    """
    logger = logging.getLogger(ROOT)
    handler = logging.StreamHandler(sys.stderr)
    place = f"[rank {rank}] " if size > 1 else ""
    handler.setFormatter(_LineFormatter(place))
    logger.handlers = [handler]
    logger.propagate = False
    speaking = logging.DEBUG if verbose else logging.INFO
    logger.setLevel(speaking if rank == 0 else logging.WARNING)


class _LineFormatter(logging.Formatter):
    """`train: message`, and `train: warning: message` from warnings on."""

    def __init__(self, place: str):
        super().__init__()
        self.place = place

    def format(self, record: logging.LogRecord) -> str:
        room = record.name.removeprefix(f"{ROOT}.")
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        line = f"{self.place}{room}: {level}{record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line
