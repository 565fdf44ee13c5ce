"""The text of catalogue.json: one line a shard, a checksum of the whole at the end, and a strict reader.

A catalogue may list a hundred thousand shards, or come from a hostile hand. So objects become entries while they are
parsed, which keeps the memory small; whatever is not exactly as it should be is named with its key; and the last line
holds the SHA-256 of all bytes above it, so that no number changes and no line is lost unnoticed.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hpcsurrogate.core.atomic import atomic_path
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.catalogue_values import SCHEMA_VERSION, require_keys, require_values
from hpcsurrogate.data.entries import Description, RealisationEntry, ShardEntry, ShardRecord, shard_name

MOST_BYTES = 1 << 30  # of a catalogue that is read: five million shards
BYTES_PER_SNAPSHOT = 8  # of a shard, at the very least: the address of a chunk

_TOP_KEYS = ("schema_version", "realisations", "sha256")
_REALISATION_KEYS = dict.fromkeys(("realisation", *Description.__slots__, "shards")).keys()
_SHARD_KEYS = dict.fromkeys(ShardEntry._fields).keys()
_DIGEST_KEY = '"sha256": "'
_HANDED_OVER = SimpleNamespace(is_a="realisation")  # left in the place of an entry
_REMEDY = "run the stage that writes it again"


def write_entries(path: Path, entries: Iterable[RealisationEntry]) -> None:
    """Write a catalogue: afterwards the file is the old one or the new one. Raises OSError if the disk is full."""
    checksum = hashlib.sha256()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for line in _lines(entries):
            file.write(line.encode())
            checksum.update(line.encode())
        file.write(f'{_DIGEST_KEY}{checksum.hexdigest()}"\n}}\n'.encode())


def _lines(entries: Iterable[RealisationEntry]) -> Iterator[str]:
    yield f'{{\n"schema_version": {SCHEMA_VERSION},\n"realisations": ['
    separator = "\n"
    for entry in entries:
        common = json.dumps({"realisation": entry.realisation, **entry.common()}, allow_nan=False)
        yield f'{separator}{common[:-1]}, "shards": ['
        yield ",".join(f"\n{json.dumps(shard._asdict())}" for shard in entry.shards) + "]}"
        separator = ",\n"
    yield "\n],\n"


def record_to_json(record: ShardRecord) -> dict[str, Any]:
    """Return a record as `json` can write it, in the form of a realisation of one shard."""
    return {"realisation": record.realisation, **record.common(), "shards": [record.shard._asdict()]}


def record_from_json(content: Any, place: str) -> ShardRecord:
    """Return the record that `record_to_json` gave and that was read from JSON.

    Parameters
    ----------
    content : JSON types
    place : str             what messages begin with: the file, and the key of the record in it

    Raises
    ------
    DataError    if a key is missing, unknown or of a wrong type, or there is not exactly one shard
    """
    try:
        entry = json.loads(json.dumps(content), object_pairs_hook=_object)
        if not isinstance(entry, RealisationEntry):
            require_keys("", entry, _REALISATION_KEYS)
        if len(entry.shards) != 1:
            raise ValueError(f"shards: are {len(entry.shards)}, expected one")
    except ValueError as error:
        raise DataError(f"{place}: {error}; {_REMEDY}") from None
    return ShardRecord(**entry.common(), realisation=entry.realisation, shard=entry.shards[0])


def read_entries(path: Path, collect: Callable[[RealisationEntry], None]) -> None:
    """Read a catalogue and hand over its entries in their order, each as soon as it is complete.

    They are worth something only when this function returns: the checksum is compared at the end.

    Parameters
    ----------
    path : Path
    collect : callable    may raise ValueError

    Raises
    ------
    DataError    if it is missing, is no JSON, was changed since it was written, or a key is missing, unknown, there
                 twice, of a wrong type or senseless, naming file and key

    Notes
    -----
    Every kind of damage: tests/unit/data/test_catalogue_file.py.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: has more than {MOST_BYTES} bytes, so it is no catalogue; {_REMEDY}")
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: file is missing; run the stage that writes it") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); see to its permissions") from None
    try:
        above = max(content.rfind(_DIGEST_KEY.encode()), 0)
        checksum, text = hashlib.sha256(memoryview(content)[:above]).hexdigest(), content.decode()
        del content  # half of the memory, before parsing takes more
        _parse(text, checksum, collect)
    except RecursionError:
        raise DataError(f"{path}: is nested too deeply for a catalogue; {_REMEDY}") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}; {_REMEDY}") from None


def _parse(text: str, checksum: str, collect: Callable[[RealisationEntry], None]) -> None:
    def hand_over(pairs: list[tuple[str, Any]]) -> Any:
        found = _object(pairs)
        if not isinstance(found, RealisationEntry):
            return found
        collect(found)
        return _HANDED_OVER

    try:
        content = json.loads(text, object_pairs_hook=hand_over, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error})") from None
    if isinstance(content, dict) and "schema_version" in content:
        require_values("", {"schema_version": content["schema_version"]})
    require_keys("", content, _TOP_KEYS)
    require_values("", content)
    for index, entry in enumerate(content["realisations"]):
        if entry is not _HANDED_OVER:
            require_keys(f"realisations[{index}]: ", entry, _REALISATION_KEYS)
    if content["sha256"] != checksum:
        raise ValueError("sha256: is not that of the lines above it, so the file was changed")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"not valid JSON ({name} is no number)")


def _object(pairs: list[tuple[str, Any]]) -> Any:
    """Make an entry of an object that has its keys; others stay dictionaries, refused where an entry belongs."""
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!a:.60}: the key is there twice")
    if content.keys() == _SHARD_KEYS:
        return ShardEntry(**content)
    return _realisation(content) if content.keys() == _REALISATION_KEYS else content


def _realisation(content: dict[str, Any]) -> RealisationEntry:
    place = f"realisation {content['realisation']!a:.40}"
    require_values(f"{place}: ", content)
    if len({len(content[name]) for name in ("grid_shape", "domain", "filter_width")}) > 1:
        raise ValueError(f"{place}: grid_shape, domain and filter_width differ in their number of axes")
    for index, shard in enumerate(content["shards"]):
        _require_shard(f"{place}, shard {index}: ", content["realisation"], shard)
    return RealisationEntry(**{name: tuple(value) if type(value) is list else value for name, value in content.items()})


def _require_shard(place: str, realisation: int, shard: Any) -> None:
    if not isinstance(shard, ShardEntry):
        require_keys(place, shard, _SHARD_KEYS)
    require_values(place, shard._asdict())
    # No name is free, so that none can lead elsewhere.
    if shard.file != shard_name(realisation, shard.first_snapshot):
        raise ValueError(f"{place}file: is {shard.file!a:.80}, not {shard_name(realisation, shard.first_snapshot)}")
    if shard.num_snapshots > shard.size // BYTES_PER_SNAPSHOT:
        raise ValueError(f"{place}num_snapshots: {shard.num_snapshots} do not fit into {shard.size} bytes")
