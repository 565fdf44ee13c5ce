"""What a stage that writes shards has done already, so that the next attempt does only the rest.

Beside the shards lies `.progress/<shard>.json` for every finished one: the digest of all that decides its contents,
what the catalogue will say of it (size and SHA-256 among that), and the moments of its fields. It is written after the
shard, so what has a record is whole. Catalogue and statistics are made of these records alone, whichever attempt and
rank they come from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import hpcsurrogate
from hpcsurrogate.core.atomic import read_json, sha256_file, write_json_atomic
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.data.catalogue import catalogue_shard, clear_shards
from hpcsurrogate.data.catalogue_file import record_from_json, record_to_json
from hpcsurrogate.data.entries import ShardRecord
from hpcsurrogate.data.statistics import FILE_NAME as STATISTICS
from hpcsurrogate.data.statistics import Moments
from hpcsurrogate.parallel.world import World

log = get_logger("progress")

FOLDER = ".progress"


def blocks(num_snapshots: int, length: int) -> list[range]:
    """Return the snapshots of the shards of a realisation: as few blocks of at most `length` as there can be.

    Their lengths differ by one at most: the reader of The Well refuses a directory with a file of a single snapshot.
    """
    number = -(-num_snapshots // length)
    edges = [-(-block * num_snapshots // number) for block in range(number + 1)]
    return [range(first, last) for first, last in pairwise(edges)]


def unit_digest(content: Any) -> str:
    """Return the digest of all that decides a shard's contents (JSON types or models) and this program's version."""
    return digest([hpcsurrogate.__version__, content])


@dataclass(frozen=True)
class FinishedShard:
    """A shard on the disk: what the catalogue says of it, and the moments of its fields (empty if nobody asked)."""

    record: ShardRecord
    moments: Mapping[str, Moments]


class Progress:
    """The finished shards of one directory; each rank knows those it wrote or looked over itself.

    Parameters
    ----------
    directory : str or Path
    world : World

    Notes
    -----
    A killed attempt goes on where it stopped, a lost or changed shard is made again, and the result is the same
    (tests/unit/data/test_progress.py, tests/unit/data/test_record_prepare.py).
    """

    def __init__(self, directory: str | Path, world: World):
        self.directory, self._world = Path(directory), world
        self._finished: dict[str, FinishedShard] = {}

    def resume(self, groups: Sequence[Mapping[str, str]]) -> frozenset[str]:
        """Keep what earlier attempts left and would be written again, and remove all other files; collective.

        Parameters
        ----------
        groups : sequence of dict    shard name -> digest of all that decides its contents; the shards of a group are
                                     kept or made again together. The same on every rank

        Returns
        -------
        frozenset of str    names of the shards that are kept, on every rank the same

        Notes
        -----
        The ranks share the reading. A shard is kept if its digest, size and SHA-256 are as recorded.
        """
        for group in self._world.share(groups):
            found = {name: self._look_up(name, expected) for name, expected in group.items()}
            self._finished |= {name: shard for name, shard in found.items() if shard and all(found.values())}
        kept = frozenset(name for of_rank in self._world.allgather(list(self._finished)) for name in of_rank)
        if self._world.rank == 0:
            self._clear(kept)
            if kept:
                total = sum(map(len, groups))
                log.info("%s: %d of %d shards are there already and kept", self.directory, len(kept), total)
        self._world.barrier()
        return kept

    def add(self, path: Path, expected: str, moments: Mapping[str, Moments] | None = None) -> None:
        """Record a shard that this rank has finished, `expected` being its digest as in `resume`."""
        moments = moments or {}
        record = catalogue_shard(path)
        content = {
            "digest": expected,
            "record": record_to_json(record),
            "moments": {name: of_field.to_json() for name, of_field in moments.items()},
        }
        write_json_atomic(self._path(path.name), content | {"checksum": digest(content)})
        self._finished[path.name] = FinishedShard(record, moments)

    def gather(self) -> list[FinishedShard]:
        """Return the finished shards of all ranks, sorted by realisation and time, on rank 0; collective.

        The other ranks get an empty list.
        """
        shards = [shard for of_rank in self._world.gather(list(self._finished.values())) for shard in of_rank]
        return sorted(shards, key=lambda shard: (shard.record.realisation, shard.record.shard.first_snapshot))

    def _path(self, name: str) -> Path:
        return self.directory / FOLDER / f"{name}.json"

    def _look_up(self, name: str, expected: str) -> FinishedShard | None:
        """The shard of that name if it is the one expected, else None."""
        path, beside = self.directory / name, self._path(name)
        if not (path.is_file() and beside.is_file()):
            return None
        try:
            content = read_json(beside)
            checksum = content.pop("checksum", None)
            if checksum != digest(content) or content["digest"] != expected:
                return None
            record = record_from_json(content["record"], str(beside))
        except (DataError, AttributeError, TypeError):  # damaged: the shard is made again, like one that is missing
            return None
        if path.stat().st_size != record.shard.size or sha256_file(path) != record.shard.sha256:
            return None
        return FinishedShard(record, {field: Moments.from_json(of) for field, of in content["moments"].items()})

    def _clear(self, kept: frozenset[str]) -> None:
        clear_shards(self.directory, keep=kept)
        (self.directory / STATISTICS).unlink(missing_ok=True)
        for path in self.directory.glob(f"{FOLDER}/*"):
            if path.name.removesuffix(".json") not in kept:
                path.unlink()
