"""What a catalogue says of its shards: of one file, of one realisation, and of one file with its realisation's keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


def shard_name(realisation: int, first_snapshot: int = 0) -> str:
    """Return the file name of the block of a realisation that begins with this snapshot."""
    return f"realisation-{realisation:04d}-{first_snapshot:06d}.hdf5"


class ShardEntry(NamedTuple):
    """One file: a block of consecutive snapshots of a realisation.

    Attributes
    ----------
    file : str              `shard_name(realisation, first_snapshot)`, in the directory of the catalogue
    size : int              [bytes]
    sha256 : str            of the file, 64 hexadecimal digits
    first_snapshot : int    number of its first snapshot in the realisation
    num_snapshots : int     of this file
    """

    file: str
    size: int
    sha256: str
    first_snapshot: int
    num_snapshots: int


@dataclass(frozen=True, slots=True)
class Description:
    """What all shards of a realisation have in common.

    Attributes
    ----------
    snapshot_interval : float        [s]
    grid_shape : tuple of int        nx, ny[, nz]
    domain : tuple of float          Lx, Ly[, Lz] [m]
    layout : str                     "collocated" or "staggered"
    fields : tuple of str            names in core.fields.FIELDS
    dtype : str                      "float32" or "float64"
    filter_kind : str                "none" for data that was not filtered
    filter_width : tuple of float    along each axis [m]; 0 for data that was not filtered
    parameters : dict                name -> number, of the flow (viscosity, ...)
    """

    snapshot_interval: float
    grid_shape: tuple[int, ...]
    domain: tuple[float, ...]
    layout: str
    fields: tuple[str, ...]
    dtype: str
    filter_kind: str
    filter_width: tuple[float, ...]
    parameters: Mapping[str, float]

    def __hash__(self) -> int:
        # A dictionary has no hash of its own, and equal ones may list their names in another order.
        return hash((*list(self.common().values())[:-1], frozenset(self.parameters.items())))

    def common(self) -> dict[str, Any]:
        """Return these attributes by name, without those that an entry or a record adds."""
        return {name: getattr(self, name) for name in Description.__slots__}

    @property
    def description(self) -> "Description":
        """The common attributes alone."""
        return Description(**self.common())


@dataclass(frozen=True, slots=True)
class RealisationEntry(Description):
    """One trajectory, and the shards that hold it in time order."""

    realisation: int
    shards: tuple[ShardEntry, ...]

    @property
    def num_snapshots(self) -> int:
        """Of all shards together."""
        return sum(shard.num_snapshots for shard in self.shards)


@dataclass(frozen=True, slots=True)
class ShardRecord(Description):
    """What a writer says of one finished shard: its entry, and what it must have in common with its neighbours."""

    realisation: int
    shard: ShardEntry
