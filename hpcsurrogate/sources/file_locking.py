"""Opening HDF5 files where HDF5 may get no lock: because another program writes, or the file system gives none."""

import time
from pathlib import Path
from typing import Any

import h5py

from hpcsurrogate.core.errors import DataError

# Seconds before each further attempt. Who writes a file may be about to close it, and lock servers get overloaded.
PAUSES = (0.1, 0.3, 0.6, 1.0, 1.0)
NO_LOCK = "unable to lock file"  # HDF5's own words; its error numbers mean other things elsewhere


def open_file(path: str | Path, mode: str, **options: Any) -> h5py.File:
    """Open or create a file, trying again for 3 s if HDF5 cannot lock it.

    Parameters
    ----------
    path : str or Path
    mode : str    "r" or "w", of h5py.File
    options       others of h5py.File

    Returns
    -------
    h5py.File

    Raises
    ------
    DataError    if there is no lock to the end, with the way out
    OSError      and whatever else h5py raises for other reasons

    Notes
    -----
    Nothing is ever opened without the lock that HDF5 wants (tests/unit/sources/test_file_locking.py); a user who knows
    that nobody writes can have that by HDF5_USE_FILE_LOCKING (tests/faults/test_data_faults.py).
    """
    pauses = iter(PAUSES)
    while True:
        try:
            return h5py.File(path, mode, **options)
        except OSError as error:
            if NO_LOCK not in str(error):
                raise
            pause = next(pauses, None)
            if pause is None:
                raise DataError(_no_lock(path, str(error))) from None
        time.sleep(pause)


def _no_lock(path: str | Path, message: str) -> str:
    reason = message.rpartition("error message = '")[2].partition("'")[0]
    return (
        f"{path}: HDF5 cannot lock the file ({reason}; tried {len(PAUSES) + 1} times); end the program that writes it, "
        "or, if its file system gives no locks and nothing else uses it, set HDF5_USE_FILE_LOCKING=FALSE"
    )
