"""The contents of a catalogue as columns of numbers: 56 bytes a shard, in memory and when rank 0 sends them."""

from array import array
from bisect import bisect_right

import numpy as np

from hpcsurrogate.data.entries import Description, RealisationEntry, ShardEntry, shard_name


class ShardColumns:
    """Realisations in the order of their numbers, and their shards in time order.

    Entries are added one by one, so that a long catalogue is never in memory as objects.

    Attributes
    ----------
    realisations : array of int64    numbers of the realisations
    """

    def __init__(self) -> None:
        self.realisations = array("q")
        # By realisation: which of the few different sorts, where its parameters end, where its shards end.
        self._sorts: list[tuple] = []
        self._numbers: dict[tuple, int] = {}  # place of each sort in that list
        self._sort_of = array("q")
        self._parameters = array("d")
        self._parameter_ends = array("q", [0])
        self._ends = array("q", [0])
        # By shard.
        self._first_snapshot, self._num_snapshots, self._size = array("q"), array("q"), array("q")
        self._sha256 = bytearray()

    def add(self, entry: RealisationEntry) -> None:
        """Append a realisation.

        Raises
        ------
        ValueError    if its number is not larger than the last one, or its shards do not follow each other from 0 on
        """
        if self.realisations and entry.realisation <= self.realisations[-1]:
            fault = "listed twice" if entry.realisation in self.realisations else "not listed in order"
            raise ValueError(f"realisation {entry.realisation}: is {fault}")
        expected = 0
        for shard in entry.shards:
            if shard.first_snapshot != expected:
                raise ValueError(
                    f"realisation {entry.realisation}: {shard.file} should begin with snapshot {expected}:"
                    " shards are missing or overlap"
                )
            expected += shard.num_snapshots
        self.realisations.append(entry.realisation)
        self._add_common(entry)
        self._first_snapshot.extend([shard.first_snapshot for shard in entry.shards])
        self._num_snapshots.extend([shard.num_snapshots for shard in entry.shards])
        self._size.extend([shard.size for shard in entry.shards])
        self._sha256 += bytes.fromhex("".join(shard.sha256 for shard in entry.shards))
        self._ends.append(len(self._size))

    def _add_common(self, entry: Description) -> None:
        common = entry.common()
        parameters = common.pop("parameters")
        sort = (*common.values(), tuple(parameters))
        if sort not in self._numbers:
            self._numbers[sort] = len(self._sorts)
            self._sorts.append(sort)
        self._sort_of.append(self._numbers[sort])
        self._parameters.extend(parameters.values())
        self._parameter_ends.append(len(self._parameters))

    @property
    def num_snapshots(self) -> np.ndarray:
        """Snapshots of each shard, shape (shard,), int64."""
        return np.frombuffer(self._num_snapshots, dtype=np.int64)

    def rows(self, index: int) -> range:
        """Return the places of the shards of a realisation, given by its own place."""
        return range(self._ends[index], self._ends[index + 1])

    def owner(self, row: int) -> int:
        """Return the place of the realisation that a shard belongs to."""
        return bisect_right(self._ends, row) - 1

    def sort(self, index: int) -> int:
        """Return a number that is the same for realisations that differ in their parameters only."""
        return self._sort_of[index]

    def description(self, index: int) -> Description:
        """Return what the shards of a realisation have in common."""
        *common, names = self._sorts[self._sort_of[index]]
        values = self._parameters[self._parameter_ends[index] : self._parameter_ends[index + 1]]
        return Description(*common, parameters=dict(zip(names, values, strict=True)))

    def shard(self, row: int) -> ShardEntry:
        """Return the entry of a shard."""
        first = self._first_snapshot[row]
        return ShardEntry(
            file=shard_name(self.realisations[self.owner(row)], first),
            size=self._size[row],
            sha256=self._sha256[32 * row : 32 * row + 32].hex(),
            first_snapshot=first,
            num_snapshots=self._num_snapshots[row],
        )
