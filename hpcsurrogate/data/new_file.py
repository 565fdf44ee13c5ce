"""Creating HDF5 files that are whole or not there at all, also when the disk is full."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py

from hpcsurrogate.core.atomic import atomic_path
from hpcsurrogate.sources.file_locking import open_file

OUT_OF_ROOM = {
    errno.ENOSPC: "disk full: free space or write elsewhere",
    errno.EFBIG: "larger than files may be here: raise `ulimit -f` or write elsewhere",
}


@contextmanager
def new_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Create an HDF5 file, in the format that 1.10 reads and whose metadata carries checksums.

    Parameters
    ----------
    path : str or Path    appears when the block ends without an error; an old file is replaced then

    Yields
    ------
    h5py.File    for writing chunks whole and once each: it has no cache of them

    Raises
    ------
    OSError      (ENOSPC, EFBIG) if there is no room for the file
    DataError    if HDF5 cannot lock it

    Notes
    -----
    A full disk neither leaves a part of the file nor ends the process (tests/unit/data/test_vtkhdf.py).
    """
    with _full_disk_named(Path(path)), atomic_path(path) as temporary, _created(temporary) as file:
        yield file


@contextmanager
def _created(path: Path) -> Iterator[h5py.File]:
    # Without a cache a full disk shows at the chunk that meets it.
    file = open_file(path, "w", libver=("v110", "v110"), rdcc_nbytes=0)
    try:
        yield file
        file.flush()  # a close that fails crashes the process when it ends; a flush that fails does not
        file.close()
    except BaseException:
        # After a write that failed HDF5 cannot close the file in order; the first error is the one to report.
        with suppress(RuntimeError, OSError):
            file.close()
        raise


@contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    """HDF5 says in several lines, and not always as an OSError, that there is no room for the file."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        for number, remedy in OUT_OF_ROOM.items():
            if getattr(error, "errno", None) == number or f"errno = {number}," in str(error):
                raise OSError(number, remedy, str(path)) from None
        raise
