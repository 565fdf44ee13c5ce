"""The stage simulate: every rank records its own units of work and writes its own shards; rank 0 writes the catalogue.

A unit is a whole realisation of a DNS, which must run from its start, or a block of snapshots of a user's trajectory.
Where several ranks share the field of a DNS, a group of them records a unit and its first rank writes the shards.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import torch

from hpcsurrogate.core.config import DnsSource, Experiment, WellSource
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.data.catalogue import Catalogue, shard_name
from hpcsurrogate.data.progress import Progress, blocks, unit_digest
from hpcsurrogate.data.shards import ShardHeader, ShardWriter
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.sources.dns import count_intervals, dns_snapshots
from hpcsurrogate.sources.snapshot import Snapshot
from hpcsurrogate.sources.well import WellHeader, inspect_well, well_snapshots

log = get_logger("simulate")

DNS_SNAPSHOTS_PER_SHARD = 128
UNSHIFTED = 1e-3  # of a spacing; rounding of float32 coordinates
NO_MEAN = 1e-3  # of the root mean square; rounding to float32 leaves far less
NO_DIVERGENCE = 0.2  # of the vorticity; a field without discrete divergence has some where it is hardly resolved
SAME_LENGTH = 1e-4  # relative; coordinates in float32 are good to about 1e-7 times the number of points


@dataclass(frozen=True)
class Recording:
    """One unit of work: what its shards will say, and where their snapshots come from.

    Attributes
    ----------
    headers : tuple of ShardHeader    one a shard, in time order
    dtype : str                       "float32" or "float64"
    snapshots : callable              gives the snapshots of all these shards, in time order
    origin : list                     JSON types: what decides the contents beside the headers
    """

    headers: tuple[ShardHeader, ...]
    dtype: str
    snapshots: Callable[[], Iterator[Snapshot]]
    origin: list = field(default_factory=list)

    @cached_property
    def digests(self) -> dict[str, str]:
        """Shard name -> digest of all that decides its contents."""
        return {
            shard_name(header.realisation, header.first_snapshot): unit_digest(
                [asdict(header), self.dtype, self.origin]
            )
            for header in self.headers
        }


def run_simulate(experiment: Experiment, paths: RunPaths, world: World) -> None:
    """Record every realisation of the source as raw/realisation-0003-000128.hdf5, ... and write raw/catalogue.json.

    An attempt that follows an interrupted one records only what is missing.

    Parameters
    ----------
    experiment : Experiment
    paths : RunPaths
    world : World    the units of work are spread over its ranks, or groups of simulate.ranks_per_realisation of them;
                     all ranks must call this

    Raises
    ------
    ConfigError      if there are more ranks or groups than realisations of a DNS, the ranks do not fall into such
                     groups, or the source contradicts itself
    DataError        if a file of the source is missing, damaged or does not fit the flow
    DivergedError    from the DNS

    Notes
    -----
    The shards hold the same fields for any number of ranks (tests/parallel/test_data_room.py) or groups, and to
    round-off for groups of any size (tests/parallel/test_shared_realisation.py). The first rank of a group holds each
    snapshot whole while it writes it.
    """
    source = experiment.simulate
    group = World()
    if isinstance(source, DnsSource):
        group = world.in_groups_of(source.ranks_per_realisation)
        recordings = _dns_recordings(experiment, source, group)
        _require_work_for_every_rank(world, group, len(recordings))
    else:
        recordings = _well_recordings(experiment, source, world)
    progress = Progress(paths.raw, world)
    kept = progress.resume([recording.digests for recording in recordings])
    missing = [recording for recording in recordings if not kept.issuperset(recording.digests)]
    for recording in missing[world.rank // group.size :: world.size // group.size]:
        if group.rank == 0:
            _record(recording, paths.raw, source.compression, progress)
        else:
            _take_part(recording)
    shards = progress.gather()
    if world.rank == 0:
        catalogue = Catalogue.from_shards(paths.raw, [shard.record for shard in shards])
        catalogue.write()
        log.info("%d realisations in %d shards in %s", len(catalogue.realisations), len(shards), paths.raw)
    world.barrier()


def _record(recording: Recording, directory: Path, compression: str, progress: Progress) -> None:
    with closing(recording.snapshots()) as snapshots:
        for header, (name, expected) in zip(recording.headers, recording.digests.items(), strict=True):
            with ShardWriter(directory / name, header, ("velocity",), recording.dtype, compression) as shard:
                for snapshot in islice(snapshots, header.num_snapshots):
                    shard.append({"velocity": snapshot.velocity})
            progress.add(directory / name, expected)


def _take_part(recording: Recording) -> None:
    """Run a realisation whose snapshots come out on the group's first rank alone, which writes them."""
    for _ in recording.snapshots():
        pass


def _require_work_for_every_rank(world: World, group: World, num_realisations: int) -> None:
    if world.size > num_realisations * group.size:
        each = f" of {group.size} ranks each" if group.size > 1 else ""
        raise ConfigError(
            f"too many ranks for the shards: {world.size} ranks, {num_realisations} realisations{each};"
            f" set ranks to at most {num_realisations * group.size}"
        )


def _dns_recordings(experiment: Experiment, source: DnsSource, group: World) -> list[Recording]:
    # How many others there are decides nothing: when some are added, those that exist are kept.
    configuration = digest([experiment.flow, source.model_dump(mode="json", exclude={"realisations"}), experiment.seed])
    num_snapshots = count_intervals(source) + 1

    def recording(realisation: int) -> Recording:
        whole = _header(experiment, realisation, num_snapshots, source.snapshot_interval, source.grid, configuration)
        return Recording(
            _blocks_of(whole, DNS_SNAPSHOTS_PER_SHARD),
            source.precision,
            lambda: dns_snapshots(experiment.flow, source, realisation, experiment.seed, group),
        )

    return [recording(realisation) for realisation in range(source.realisations)]


def _well_recordings(experiment: Experiment, source: WellSource, world: World) -> list[Recording]:
    """Every trajectory of every file is one realisation, numbered through in the order of the files."""
    wells = world.bcast([_inspected(experiment, source, path) for path in source.files] if world.rank == 0 else None)
    configuration = digest([experiment.flow, source.model_dump(mode="json", exclude={"files"})])
    recordings: list[Recording] = []
    realisation = 0
    for path, (well, state) in zip(source.files, wells, strict=True):
        for trajectory in range(well.num_trajectories):
            whole = _header(
                experiment, realisation, well.num_snapshots, well.snapshot_interval, well.grid_shape, configuration
            )
            for header in _blocks_of(whole, source.snapshots_per_shard):
                reader = _trajectory_reader(path, source, trajectory, header, experiment.flow.domain)
                recordings.append(Recording((header,), well.dtype, reader, [*state, trajectory]))
            realisation += 1
    return recordings


def _inspected(experiment: Experiment, source: WellSource, path: str) -> tuple[WellHeader, list]:
    """The header of a user's file and its state: size and time stand for contents too large to read for this."""
    well = inspect_well(path, source.velocity)
    _require_fit(experiment, Path(path), well)
    status = os.stat(path)
    return well, [path, status.st_size, status.st_mtime_ns]


def _header(
    experiment: Experiment,
    realisation: int,
    num_snapshots: int,
    interval: float,
    grid_shape: tuple[int, ...],
    configuration: str,
) -> ShardHeader:
    return ShardHeader(
        dataset_name=experiment.name,
        realisation=realisation,
        num_snapshots=num_snapshots,
        snapshot_interval=interval,
        grid_shape=grid_shape,
        domain=experiment.flow.domain,
        filter_width=(0.0,) * len(grid_shape),
        parameters={"viscosity": experiment.flow.viscosity, "drag": experiment.flow.drag},
        configuration=configuration,
    )


def _blocks_of(whole: ShardHeader, length: int) -> tuple[ShardHeader, ...]:
    """Headers of the shards of a realisation."""
    return tuple(
        replace(whole, first_snapshot=block.start, num_snapshots=len(block))
        for block in blocks(whole.num_snapshots, length)
    )


def _trajectory_reader(
    path: str, source: WellSource, trajectory: int, header: ShardHeader, domain: tuple[float, ...]
) -> Callable[[], Iterator[Snapshot]]:
    first, stop = header.first_snapshot, header.first_snapshot + header.num_snapshots
    name = source.velocity if isinstance(source.velocity, str) else ", ".join(source.velocity)

    def snapshots() -> Iterator[Snapshot]:
        for index, snapshot in enumerate(well_snapshots(path, source.velocity, trajectory, first, stop), first):
            _require_incompressible(f"{path}: {name}, trajectory {trajectory}, snapshot {index}", snapshot, domain)
            yield snapshot

    return snapshots


def _require_incompressible(place: str, snapshot: Snapshot, domain: tuple[float, ...]) -> None:
    """The fine right-hand side has neither mean flow nor divergence: targets of a field with either would be wrong."""
    velocity = torch.from_numpy(snapshot.velocity).to(torch.float64)
    axes = tuple(range(1, velocity.ndim))
    mean = velocity.mean(axes).tolist()
    if max(map(abs, mean)) > NO_MEAN * velocity.square().mean().sqrt():
        numbers = ", ".join(f"{value:.3g}" for value in mean)
        raise DataError(f"{place}: mean velocity is {numbers} m/s; only flows without one can be used")
    grid = Grid(velocity.shape[1:], domain)
    velocity_hat = torch.fft.rfftn(velocity, dim=axes)
    divergence = sum(k * component for k, component in zip(grid.k, velocity_hat, strict=True)).abs().square().sum()
    # |k x u|^2 = |k|^2 |u|^2 - |k . u|^2, for real and imaginary part, in two dimensions and in three
    vorticity = ((grid.k2 * velocity_hat.abs().square().sum(0)).sum() - divergence).clamp(min=0)
    if divergence > NO_DIVERGENCE**2 * vorticity:
        raise DataError(
            f"{place}: divergence is {(divergence / vorticity).sqrt():.2g} of the vorticity, not 0;"
            " are axes or components exchanged?"
        )


def _require_fit(experiment: Experiment, path: Path, well: WellHeader) -> None:
    """The file's box must be the flow's box, and begin at its origin if the forcing has a phase."""
    expected_domain = experiment.flow.domain
    if len(well.domain) != len(expected_domain):
        raise DataError(
            f"{path}: the data have {len(well.domain)} dimensions, flow.domain has {len(expected_domain)};"
            " correct flow.domain"
        )
    for axis, (found, expected) in enumerate(zip(well.domain, expected_domain, strict=True)):
        if abs(found - expected) > SAME_LENGTH * expected:
            raise DataError(
                f"{path}: domain {'xyz'[axis]} is {found:g} m long, flow.domain says {expected:g}; correct one of them"
            )
        spacing = found / well.grid_shape[axis]
        if experiment.flow.forcing.kind != "none" and abs(well.origin[axis]) > UNSHIFTED * spacing:
            raise DataError(
                f"{path}: the first point along {'xyz'[axis]} lies at {well.origin[axis]:g} m, not at 0,"
                " where flow.forcing begins; shift the coordinates"
            )
