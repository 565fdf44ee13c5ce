"""From a block of fine snapshots to coarse shards, one for each filter: the work of the stage prepare.

Every fine snapshot is read once and seen through all filters: memory holds a few snapshots whatever the block's length.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hpcsurrogate.core.config import Experiment, Filter
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.data.catalogue import Catalogue, shard_name
from hpcsurrogate.data.entries import ShardEntry
from hpcsurrogate.data.readers import verify_shard
from hpcsurrogate.data.shards import ShardHeader, ShardWriter
from hpcsurrogate.data.statistics import Moments, merge_all
from hpcsurrogate.physics.coarse_graining import CoarseGraining
from hpcsurrogate.physics.fine_snapshot import FineSnapshot
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import make_host


@dataclass(frozen=True)
class Unit:
    """Consecutive snapshots of one realisation: one shard in the directory of every filter.

    Attributes
    ----------
    realisation : int
    block : range                  the snapshots
    fine : tuple of ShardEntry     the raw shards that hold them
    """

    realisation: int
    block: range
    fine: tuple[ShardEntry, ...]

    @property
    def name(self) -> str:
        """File name of the shard."""
        return shard_name(self.realisation, self.block.start)


class CoarseShards:
    """Writes the coarse shards of one rank.

    Parameters
    ----------
    experiment : Experiment
    raw : Catalogue    of the fine shards
    """

    def __init__(self, experiment: Experiment, raw: Catalogue):
        self._experiment, self._raw = experiment, raw
        self._verified: set[str] = set()
        self._host = make_host(experiment.host, experiment.flow, dtype=torch.float64)
        self._grainings: dict[tuple[Filter, tuple[int, ...]], CoarseGraining] = {}

    def write(self, unit: Unit, outputs: Sequence[tuple[Filter, Path]]) -> list[dict[str, Moments]]:
        """Write the shards of a unit.

        Parameters
        ----------
        unit : Unit
        outputs : sequence of (Filter, Path)    what to see the fine snapshots through, and the file it goes to

        Returns
        -------
        list of dict field -> Moments    of each file

        Raises
        ------
        DataError    if a fine shard differs from its catalogue (its SHA-256 is compared the first time this rank needs
                     it), or a value is not finite, naming realisation, snapshot, field and component
        """
        self._verify(unit)
        moments: list[dict[str, Moments]] = [{} for _ in outputs]
        with self._raw.open(unit.realisation) as fine, ExitStack() as stack:
            grainings = [self._graining(config, fine.header.grid_shape) for config, _ in outputs]
            shards = [
                stack.enter_context(self._shard(path, self._header(unit, fine.header, config, graining), graining))
                for (config, path), graining in zip(outputs, grainings, strict=True)
            ]
            for index in unit.block:
                place = f"{fine.path}: realisation {unit.realisation}, snapshot {index}"
                velocity = fine.snapshot("velocity", index)
                _require_finite(place, "velocity", velocity, "run simulate again")
                shared = grainings[0].snapshot(torch.from_numpy(velocity)[None])
                for number, graining in enumerate(grainings):
                    values = _coarse_values(graining, shared, place)
                    shards[number].append(values)
                    new = {name: Moments.of(array) for name, array in values.items()}
                    moments[number] = merge_all([moments[number], new])
        return moments

    def _verify(self, unit: Unit) -> None:
        for shard in unit.fine:
            if shard.file not in self._verified:
                verify_shard(self._raw.path(shard), shard)
                self._verified.add(shard.file)

    def _shard(self, path: Path, header: ShardHeader, graining: CoarseGraining) -> ShardWriter:
        return ShardWriter(path, header, graining.field_names, compression=self._experiment.prepare.compression)

    def _graining(self, config: Filter, fine_shape: tuple[int, ...]) -> CoarseGraining:
        key = (config, fine_shape)
        if key not in self._grainings:
            grid = Grid(fine_shape, self._experiment.flow.domain, dtype=torch.float64)
            self._grainings[key] = CoarseGraining(self._experiment.flow, grid, self._host, config)
        return self._grainings[key]

    def _header(self, unit: Unit, fine: ShardHeader, config: Filter, graining: CoarseGraining) -> ShardHeader:
        return ShardHeader(
            dataset_name=self._experiment.name,
            realisation=unit.realisation,
            num_snapshots=len(unit.block),
            first_snapshot=unit.block.start,
            snapshot_interval=fine.snapshot_interval,
            grid_shape=graining.host.grid.shape,
            domain=fine.domain,
            layout=graining.host.layout,
            filter_kind=config.kind,
            filter_width=graining.widths,
            parameters=fine.parameters,
            configuration=digest([fine.configuration, self._experiment.flow, self._experiment.host, config]),
        )


def _coarse_values(graining: CoarseGraining, fine: FineSnapshot, place: str) -> dict[str, np.ndarray]:
    """All fields of one snapshot, (component, nx, ny[, nz]), float32."""
    with torch.no_grad():
        fields = graining.fields(fine)
    values = {name: field[0].to(torch.float32).numpy() for name, field in fields.items()}
    for name, array in values.items():
        _require_finite(place, name, array, "it is too large for float32: rescale the flow's units")
    return values


def _require_finite(place: str, name: str, values: np.ndarray, remedy: str) -> None:
    finite = np.isfinite(values).reshape(len(values), -1).all(1)
    if not finite.all():
        component = FIELDS[name].components_in(values.ndim - 1)[int(finite.argmin())]
        raise DataError(f"{place}: component {component} of {name} holds NaN or infinity; {remedy}")
