"""The stage simulate: every rank runs its own realisations and writes its own shards; rank 0 writes the catalogue."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from hpcsurrogate.core.config import DnsSource, Experiment, WellSource
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, clear_shards, shard_name
from hpcsurrogate.data.shards import ShardHeader, ShardWriter
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.sources.dns import count_intervals, dns_snapshots
from hpcsurrogate.sources.snapshot import Snapshot
from hpcsurrogate.sources.well import WellHeader, inspect_well, well_snapshots

log = get_logger("simulate")

UNSHIFTED = 1e-3  # of a spacing; rounding of float32 coordinates
NO_MEAN = 1e-3  # of the root mean square; rounding to float32 leaves far less
NO_DIVERGENCE = 0.2  # of the vorticity; a field without discrete divergence has some where it is hardly resolved
SAME_LENGTH = 1e-4  # relative; coordinates in float32 are good to about 1e-7 times the number of points


@dataclass(frozen=True)
class Recording:
    """One realisation to be recorded: what its shard will say, and where its snapshots come from."""

    header: ShardHeader
    dtype: str
    snapshots: Callable[[], Iterator[Snapshot]]


def run_simulate(experiment: Experiment, paths: RunPaths, world: World) -> None:
    """Record every realisation of the source as raw/realisation-0003.hdf5 and write raw/catalogue.json.

    Parameters
    ----------
    experiment : Experiment
    paths : RunPaths
    world : World    the realisations are spread over its ranks; all ranks must call this

    Raises
    ------
    ConfigError      if there are more ranks than realisations, or the source contradicts itself
    DataError        if a file of the source is missing, damaged or does not fit the flow
    DivergedError    from the DNS

    Notes
    -----
    The shards hold the same fields for any number of ranks (tests/parallel/test_data_room.py).
    """
    source = experiment.simulate
    recordings = (
        _dns_recordings(experiment, source) if isinstance(source, DnsSource) else _well_recordings(experiment, source)
    )
    require_work_for_every_rank(world, len(recordings))
    if world.rank == 0:
        clear_shards(paths.raw)
    world.barrier()
    entries = []
    for recording in world.share(recordings):
        path = paths.raw / shard_name(recording.header.realisation)
        with ShardWriter(path, recording.header, ("velocity",), recording.dtype) as shard:
            for snapshot in recording.snapshots():
                shard.append({"velocity": snapshot.velocity})
        entries.append(catalogue_shard(path))
    gathered = [entry for of_rank in world.allgather(entries) for entry in of_rank]
    if world.rank == 0:
        Catalogue(paths.raw, gathered).write()
        log.info("%d realisations in %s", len(gathered), paths.raw)
    world.barrier()


def require_work_for_every_rank(world: World, num_realisations: int) -> None:
    """Raise ConfigError if some rank would have no realisation."""
    if world.size > num_realisations:
        raise ConfigError(
            f"too many ranks for the shards: {world.size} ranks, {num_realisations} realisations;"
            f" set ranks to at most {num_realisations}"
        )


def _dns_recordings(experiment: Experiment, source: DnsSource) -> list[Recording]:
    num_snapshots = count_intervals(source) + 1

    def recording(realisation: int) -> Recording:
        header = _header(experiment, realisation, num_snapshots, source.snapshot_interval, source.grid)
        return Recording(
            header, source.precision, lambda: dns_snapshots(experiment.flow, source, realisation, experiment.seed)
        )

    return [recording(realisation) for realisation in range(source.realisations)]


def _well_recordings(experiment: Experiment, source: WellSource) -> list[Recording]:
    """Every trajectory of every file is one realisation, numbered through in the order of the files."""
    recordings: list[Recording] = []
    for path in source.files:
        well = inspect_well(path, source.velocity)
        _require_fit(experiment, Path(path), well)
        for trajectory in range(well.num_trajectories):
            header = _header(experiment, len(recordings), well.num_snapshots, well.snapshot_interval, well.grid_shape)
            reader = _trajectory_reader(path, source.velocity, trajectory, experiment.flow.domain)
            recordings.append(Recording(header, well.dtype, reader))
    return recordings


def _header(
    experiment: Experiment, realisation: int, num_snapshots: int, interval: float, grid_shape: tuple[int, int]
) -> ShardHeader:
    return ShardHeader(
        dataset_name=experiment.name,
        realisation=realisation,
        num_snapshots=num_snapshots,
        snapshot_interval=interval,
        grid_shape=grid_shape,
        domain=experiment.flow.domain,
        parameters={"viscosity": experiment.flow.viscosity, "drag": experiment.flow.drag},
        configuration=digest([experiment.flow, experiment.simulate, experiment.seed]),
    )


def _trajectory_reader(
    path: str, velocity: str, trajectory: int, domain: tuple[float, float]
) -> Callable[[], Iterator[Snapshot]]:
    def snapshots() -> Iterator[Snapshot]:
        for index, snapshot in enumerate(well_snapshots(path, velocity, trajectory)):
            _require_incompressible(f"{path}: {velocity}, trajectory {trajectory}, snapshot {index}", snapshot, domain)
            yield snapshot

    return snapshots


def _require_incompressible(place: str, snapshot: Snapshot, domain: tuple[float, float]) -> None:
    """The fine right-hand side has neither mean flow nor divergence: targets of a field with either would be wrong."""
    velocity = torch.from_numpy(snapshot.velocity).to(torch.float64)
    mean = velocity.mean((1, 2)).tolist()
    if max(map(abs, mean)) > NO_MEAN * velocity.square().mean().sqrt():
        raise DataError(
            f"{place}: mean velocity is {mean[0]:.3g}, {mean[1]:.3g} m/s; only flows without one can be used"
        )
    grid = Grid(velocity.shape[1:], domain)
    u_hat, v_hat = torch.fft.rfft2(velocity)
    divergence, vorticity = grid.kx * u_hat + grid.ky * v_hat, grid.kx * v_hat - grid.ky * u_hat
    if divergence.norm() > NO_DIVERGENCE * vorticity.norm():
        raise DataError(
            f"{place}: divergence is {divergence.norm() / vorticity.norm():.2g} of the vorticity, not 0;"
            " are axes or components exchanged?"
        )


def _require_fit(experiment: Experiment, path: Path, well: WellHeader) -> None:
    """The file's box must be the flow's box, and begin at its origin if the forcing has a phase."""
    for axis in range(2):
        found, expected = well.domain[axis], experiment.flow.domain[axis]
        if abs(found - expected) > SAME_LENGTH * expected:
            raise DataError(
                f"{path}: domain {'xy'[axis]} is {found:g} m long, flow.domain says {expected:g}; correct one of them"
            )
        spacing = found / well.grid_shape[axis]
        if experiment.flow.forcing.kind != "none" and abs(well.origin[axis]) > UNSHIFTED * spacing:
            raise DataError(
                f"{path}: the first point along {'xy'[axis]} lies at {well.origin[axis]:g} m, not at 0,"
                " where flow.forcing begins; shift the coordinates"
            )
