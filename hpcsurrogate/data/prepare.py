"""The stage prepare: filter, exact SGS stress and the host's commutator of every raw realisation, then statistics."""

from collections.abc import Mapping

import numpy as np
import torch

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.data.catalogue import Catalogue, CatalogueEntry, catalogue_shard, clear_shards, shard_name
from hpcsurrogate.data.record import require_work_for_every_rank
from hpcsurrogate.data.shards import ShardHeader, ShardReader, ShardWriter
from hpcsurrogate.data.statistics import Moments, summarise
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.coarse_graining import CoarseGraining
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import make_host

log = get_logger("prepare")

FIELD_NAMES = ("velocity", "commutator", "sgs_force", "sgs_stress")


def run_prepare(experiment: Experiment, paths: RunPaths, world: World) -> None:
    """Coarse-grain raw/ into prepared/: velocity, commutator, sgs_force and sgs_stress on the host's points.

    Calculated in float64, stored in float32. Writes prepared/realisation-0003.hdf5, catalogue.json and statistics.json.

    Parameters
    ----------
    experiment : Experiment
    paths : RunPaths
    world : World    the realisations are spread over its ranks; all ranks must call this

    Raises
    ------
    ConfigError    if prepare.split names a realisation that was not recorded, or there are more ranks than realisations
    DataError      if a raw shard differs from its catalogue, or a channel is constant or not finite, naming it

    Notes
    -----
    The shards and statistics are the same for any number of ranks (tests/parallel/test_data_room.py).
    """
    raw = Catalogue.read(paths.raw)
    _require_split(experiment, raw)
    require_work_for_every_rank(world, len(raw.entries))
    if world.rank == 0:
        clear_shards(paths.prepared)
        paths.statistics.unlink(missing_ok=True)
    world.barrier()
    entries: list[CatalogueEntry] = []
    moments: dict[int, dict[str, Moments]] = {}
    for realisation in world.share(raw.realisations):
        entry, moments[realisation] = _prepare_realisation(experiment, paths, raw, realisation)
        entries.append(entry)
    gathered = world.allgather((entries, moments))
    if world.rank == 0:
        _write_summaries(experiment, paths, gathered)
    world.barrier()


def _write_summaries(
    experiment: Experiment, paths: RunPaths, gathered: list[tuple[list[CatalogueEntry], dict[int, dict[str, Moments]]]]
) -> None:
    by_realisation = {number: moments for _, of_rank in gathered for number, moments in of_rank.items()}
    statistics = summarise(by_realisation[number] for number in sorted(experiment.prepare.split.train))
    Catalogue(paths.prepared, [entry for of_rank, _ in gathered for entry in of_rank]).write()
    statistics.write(paths.statistics)
    scales = (statistics.velocity_rms, statistics.commutator_rms, statistics.sgs_force_rms)
    log.info("%d realisations in %s", len(by_realisation), paths.prepared)
    log.info("rms of a component: velocity %.3g m/s, commutator %.3g m/s^2, SGS force %.3g m/s^2", *scales)


def _prepare_realisation(
    experiment: Experiment, paths: RunPaths, raw: Catalogue, realisation: int
) -> tuple[CatalogueEntry, dict[str, Moments]]:
    path = paths.prepared / shard_name(realisation)
    moments: dict[str, Moments] = {}
    with raw.open(realisation, verify=True) as fine:
        graining = _coarse_graining(experiment, fine.header.grid_shape)
        header = _header(experiment, fine.header, graining)
        with ShardWriter(path, header, FIELD_NAMES) as shard:
            for index in range(header.num_snapshots):
                values = _coarse_grain(graining, fine, index)
                shard.append(values)
                for name in FIELD_NAMES:
                    new = Moments.of(values[name])
                    moments[name] = moments[name].merge(new) if name in moments else new
    log.info("realisation %d: %d snapshots", realisation, header.num_snapshots)
    return catalogue_shard(path), moments


def _coarse_grain(graining: CoarseGraining, fine: ShardReader, index: int) -> Mapping[str, np.ndarray]:
    """All fields of one snapshot, (component, nx, ny), float32."""
    velocity = fine.snapshot("velocity", index)
    if not np.isfinite(velocity).all():
        raise DataError(f"{fine.path}: velocity of snapshot {index} holds NaN or infinity; run simulate again")
    fine_bcxy = torch.from_numpy(velocity).to(torch.float64)[None]
    with torch.no_grad():
        fields = graining.fields(fine_bcxy)
    values = {name: fields[name][0].to(torch.float32).numpy() for name in FIELD_NAMES}
    for name, array in values.items():
        if not np.isfinite(array).all():
            raise DataError(
                f"{fine.path}: {name} of snapshot {index} is not finite in float32; rescale the flow's units"
            )
    return values


def _coarse_graining(experiment: Experiment, fine_shape: tuple[int, int]) -> CoarseGraining:
    flow = experiment.flow
    host = make_host(experiment.host, flow, dtype=torch.float64)
    return CoarseGraining(flow, Grid(fine_shape, flow.domain, dtype=torch.float64), host, experiment.prepare.filter)


def _header(experiment: Experiment, fine: ShardHeader, graining: CoarseGraining) -> ShardHeader:
    return ShardHeader(
        dataset_name=experiment.name,
        realisation=fine.realisation,
        num_snapshots=fine.num_snapshots,
        snapshot_interval=fine.snapshot_interval,
        grid_shape=graining.host.grid.shape,
        domain=fine.domain,
        layout=graining.host.layout,
        filter_kind=experiment.prepare.filter.kind,
        filter_width=graining.widths,
        parameters=fine.parameters,
        configuration=digest([fine.configuration, experiment.host, experiment.prepare.filter]),
    )


def _require_split(experiment: Experiment, raw: Catalogue) -> None:
    split = experiment.prepare.split
    for key in ("train", "validation", "test"):
        if unknown := sorted(set(getattr(split, key)) - set(raw.realisations)):
            raise ConfigError(
                f"prepare.split.{key}: realisations {unknown} were not recorded; raw/ holds {list(raw.realisations)}"
            )
