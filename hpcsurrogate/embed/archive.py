"""Check what an artifact holds before torch is asked to load it: its entries, their checksums, its code, its pickles.

torch runs code of a TorchScript archive while loading it, and calls whatever operators that code names, among them some
that write files. So everything that is not known to be needed is refused first. The rule stands in words at the head of
native/operators.txt, which the native library reads too.

The archive is read with the very reader that `torch.jit.load` uses: no other can see another file than torch does.
"""

import hashlib
import io
import re

import torch

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.embed.archive_code import check_code, rules
from hpcsurrogate.embed.archive_pickle import check_pickle

METADATA_ENTRY = "hpcsurrogate.json"
WEIGHTS_ENTRY = "weights.safetensors"
SEAL_ENTRY = "content.sha256"
EXTRA = "extra/"  # where torch keeps the files that are not its own

_PART = r"(?:___torch_mangle_\d+|(?!__)[A-Za-z_][A-Za-z0-9_]*)"
_KNOWN = re.compile(
    rf"data\.pkl|constants\.pkl|version|byteorder|(?:data|constants)/[0-9]+|code/__torch__(?:/{_PART})*\.py"
    rf"|{EXTRA}(?:{re.escape(METADATA_ENTRY)}|{re.escape(WEIGHTS_ENTRY)}|{re.escape(SEAL_ENTRY)})",
    re.ASCII,
)
_ZIP = b"PK\x03\x04"
_FLATBUFFER = b"PTMF"  # at byte 4: torch's other format, for which it does not look at the rest
REMEDY = "do not use this file; export the model again"


def check_archive(content: bytes, origin: object) -> dict[str, bytes]:
    """Refuse an archive that holds anything but what an exported closure needs.

    Parameters
    ----------
    content : bytes    the whole file
    origin : object    how messages name it, such as its path

    Returns
    -------
    dict of str to bytes    its entries by name, without the archive's folder

    Raises
    ------
    ModelRefusedError    if an entry is unknown, there twice, larger than the file or not the one that was sealed; if
                         its code is more than calls of pure tensor operators; if a pickle makes other objects than
                         tensors within their storage, numbers, texts, containers and the archive's own classes
                         (tests/unit/embed/test_archive.py, tests/faults/test_model_faults.py)
    """
    entries = read_entries(content, origin)
    check_seal(entries, origin)
    classes: set[str] = set()
    for name in sorted(entries):
        if name.endswith((".py", ".pkl")) and len(entries[name]) > rules().limits["bytes"]:
            raise ModelRefusedError(f"{origin}: {name} is larger than that of a closure; {REMEDY}")
        if name.endswith(".py"):
            classes |= check_code(entries[name], name, origin)
    for name in ("data.pkl", "constants.pkl"):
        if name in entries:
            check_pickle(entries, name, classes, origin)
    return entries


def read_entries(content: bytes, origin: object, known: re.Pattern[str] | None = _KNOWN) -> dict[str, bytes]:
    """Read all entries of an archive, after a look at their names and declared sizes.

    Parameters
    ----------
    content : bytes
    origin : object            how messages name it
    known : Pattern or None    names that may be there; None for any, of an archive that was just made

    Raises
    ------
    ModelRefusedError    if it is no archive, or if an entry is unknown, there twice or larger than the whole file
    """
    if content[:4] != _ZIP or content[4:8] == _FLATBUFFER:
        raise ModelRefusedError(f"{origin}: is no TorchScript archive; {REMEDY}")
    try:
        reader = torch._C.PyTorchFileReader(io.BytesIO(content))
        names = reader.get_all_records()
        if known is not None:
            _check_names(names, sum(reader.get_record_size(name) for name in names), len(content), known, origin)
        return {name: reader.get_record(name) for name in names}
    except (RuntimeError, ValueError) as error:  # also of names that are no UTF-8
        reason = str(error).strip().splitlines()[0].split(". ")[0][:200]
        raise ModelRefusedError(f"{origin}: is no TorchScript archive ({reason}); {REMEDY}") from None


def seal(entries: dict[str, bytes]) -> bytes:
    """Return the SHA-256 of all entries but the seal itself, as `sha256sum` writes them, sorted by name.

    Notes
    -----
    torch's reader does not look at the checksums of the archive: one flipped bit in a weight would load
    (tests/unit/embed/test_archive.py). A seal finds damage, and what a careless tool changed; it is no signature.
    """
    names = sorted(set(entries) - {EXTRA + SEAL_ENTRY}, key=str.encode)
    return "".join(f"{hashlib.sha256(entries[name]).hexdigest()}  {name}\n" for name in names).encode("ascii")


def check_seal(entries: dict[str, bytes], origin: object) -> None:
    """Refuse an archive whose entries are not those that were sealed.

    Raises
    ------
    ModelRefusedError    naming the first entry that was changed, added or removed
    """
    promised = entries.get(EXTRA + SEAL_ENTRY)
    if promised is None:
        raise ModelRefusedError(f"{origin}: holds no {SEAL_ENTRY}, the checksums of its entries; {REMEDY}")
    found = seal(entries)
    if promised == found:
        return
    differing = set(promised.splitlines()) ^ set(found.splitlines())
    names = sorted(line[66:].decode("ascii", errors="replace") for line in differing)
    raise ModelRefusedError(f"{origin}: {names[0] if names else SEAL_ENTRY} was changed after the export; {REMEDY}")


def _check_names(names: list[str], total: int, room: int, known: re.Pattern[str], origin: object) -> None:
    seen: set[str] = set()
    for name in names:
        if not known.fullmatch(name):
            shown = name.encode("unicode_escape").decode("ascii")[:100]
            raise ModelRefusedError(f"{origin}: entry '{shown}' is none that an exported closure has; {REMEDY}")
        if name.lower() in seen:  # torch looks names up without regard to case
            raise ModelRefusedError(f"{origin}: entry '{name}' is there twice; {REMEDY}")
        seen.add(name.lower())
    if total > room:
        raise ModelRefusedError(f"{origin}: its entries claim {total} bytes, the file has {room}; {REMEDY}")
