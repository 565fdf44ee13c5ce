"""Write the archive of an artifact: only what a host needs, and sealed."""

import io
import zipfile

from hpcsurrogate.embed.archive import EXTRA, SEAL_ENTRY, read_entries, seal

_FOLDER = "archive/"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that the format knows: equal content, equal bytes


def pack(content: bytes, replaced: dict[str, bytes] | None = None) -> bytes:
    """Return an archive of `torch.jit.save` with the entries that a host needs, their checksums among them.

    Parameters
    ----------
    content : bytes                             as torch or this function wrote it
    replaced : dict of str to bytes, or None    extra files by name, in the place of those in it

    Returns
    -------
    bytes    which `embed.archive.check_archive` accepts, if the code in it does what a closure does

    Notes
    -----
    All other entries keep their bytes, and equal content gives equal bytes (tests/unit/export/test_archive_file.py).
    Left out is what torch keeps for its error messages: the source lines that the network was written in, and the
    paths of those files on the machine that exported it.
    """
    entries = read_entries(content, "archive", known=None)
    entries |= {EXTRA + name: extra for name, extra in (replaced or {}).items()}
    kept = {
        name: entries[name] for name in entries if not name.endswith(".debug_pkl") and not name.startswith(".data/")
    }
    kept[EXTRA + SEAL_ENTRY] = seal(kept)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, entry in kept.items():
            archive.writestr(zipfile.ZipInfo(_FOLDER + name, _LONG_AGO), entry)
    return buffer.getvalue()
