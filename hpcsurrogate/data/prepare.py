"""The stage prepare: filter, exact SGS stress and the host's commutator of every raw snapshot, then statistics.

The unit of work of a rank is a block of consecutive snapshots of one realisation. Every filter fills a directory of its
own, prepared/ and prepared/filter-1, ..., in one pass over the fine data.
"""

import shutil
from bisect import bisect_left, bisect_right
from pathlib import Path

from hpcsurrogate.core.config import Experiment, Filter
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.data.coarse_shards import CoarseShards, Unit
from hpcsurrogate.data.progress import Progress, blocks, unit_digest
from hpcsurrogate.data.statistics import FILE_NAME as STATISTICS
from hpcsurrogate.data.statistics import summarise
from hpcsurrogate.parallel.world import World

log = get_logger("prepare")


class Target:
    """One filter, the directory that it fills, and what lies there already.

    Parameters
    ----------
    experiment : Experiment
    config : core.config.Filter
    directory : Path
    world : World
    """

    def __init__(self, experiment: Experiment, config: Filter, directory: Path, world: World):
        self.config, self.directory, self.progress = config, directory, Progress(directory, world)
        self.kept: frozenset[str] = frozenset()
        settings = [experiment.name, experiment.flow, experiment.host, config, experiment.prepare.compression]
        self._settings = unit_digest(settings)

    def digest(self, unit: Unit) -> str:
        """Digest of all that decides the contents of a shard."""
        fine = [[shard.first_snapshot, shard.sha256] for shard in unit.fine]
        return unit_digest([self._settings, unit.realisation, unit.block.start, unit.block.stop, fine])

    def resume(self, units: list[Unit]) -> None:
        """Keep the shards that are as they should be, and remove all other files; collective."""
        self.kept = self.progress.resume([{unit.name: self.digest(unit)} for unit in units])

    def lacks(self, unit: Unit) -> bool:
        """Whether the shard of a unit must be made."""
        return unit.name not in self.kept


def run_prepare(experiment: Experiment, paths: RunPaths, world: World) -> None:
    """Coarse-grain raw/ into prepared/: velocity, commutator, sgs_force and sgs_stress on the host's points.

    Calculated in float64, stored in float32. Writes prepared/realisation-0003-000128.hdf5, ..., catalogue.json and
    statistics.json; for prepare.more_filters the same into prepared/filter-1, ... An attempt that follows an
    interrupted one prepares only what is missing.

    Parameters
    ----------
    experiment : Experiment
    paths : RunPaths
    world : World    blocks of snapshots are spread over its ranks; all ranks must call this

    Raises
    ------
    ConfigError    if prepare.split names a realisation that was not recorded
    DataError      if a raw shard differs from its catalogue, or a component is constant or not finite, naming it

    Notes
    -----
    The shards and statistics are the same for any number of ranks (tests/parallel/test_data_room.py) and after an
    interruption; memory does not depend on the number of snapshots (tests/unit/data/test_record_prepare.py).
    """
    raw = Catalogue.read(paths.raw, world)
    _require_split(experiment, raw)
    targets = _targets(experiment, paths, world)
    units = _units(experiment, raw)
    for target in targets:
        target.resume(units)
    coarse = CoarseShards(experiment, raw)
    for unit in world.share([unit for unit in units if any(target.lacks(unit) for target in targets)]):
        _prepare(unit, [target for target in targets if target.lacks(unit)], coarse)
    for target in targets:
        _write_summaries(experiment, target, world)
    world.barrier()


def _targets(experiment: Experiment, paths: RunPaths, world: World) -> list[Target]:
    """The filters with their directories; those of filters that are no longer asked for are removed."""
    filters = (experiment.prepare.filter, *experiment.prepare.more_filters)
    directories = [paths.prepared_through(number) for number in range(len(filters))]
    if world.rank == 0:
        for directory in set(paths.prepared.glob("filter-[0-9]*")) - set(directories):
            shutil.rmtree(directory)
    return [
        Target(experiment, config, directory, world) for config, directory in zip(filters, directories, strict=True)
    ]


def _units(experiment: Experiment, raw: Catalogue) -> list[Unit]:
    units = []
    for entry in map(raw.entry, raw.realisations):
        starts = [shard.first_snapshot for shard in entry.shards]
        for block in blocks(entry.num_snapshots, experiment.prepare.snapshots_per_shard):
            fine = entry.shards[bisect_right(starts, block.start) - 1 : bisect_left(starts, block.stop)]
            units.append(Unit(entry.realisation, block, fine))
    return units


def _prepare(unit: Unit, targets: list[Target], coarse: CoarseShards) -> None:
    paths = [target.directory / unit.name for target in targets]
    moments = coarse.write(unit, [(target.config, path) for target, path in zip(targets, paths, strict=True)])
    for target, path, of_shard in zip(targets, paths, moments, strict=True):
        target.progress.add(path, target.digest(unit), of_shard)
    log.info("realisation %d: snapshots %d to %d", unit.realisation, unit.block[0], unit.block[-1])


def _write_summaries(experiment: Experiment, target: Target, world: World) -> None:
    shards = target.progress.gather()
    if world.rank != 0:
        return
    train = [shard.moments for shard in shards if shard.record.realisation in experiment.prepare.split.train]
    statistics = summarise(train, len(experiment.flow.domain))
    Catalogue.from_shards(target.directory, [shard.record for shard in shards]).write()
    statistics.write(target.directory / STATISTICS)
    scales = (f"{name} {of.component_rms:.3g} {FIELDS[name].unit}" for name, of in statistics.fields.items())
    log.info("%s: %d shards; rms of a component: %s", target.directory, len(shards), ", ".join(scales))


def _require_split(experiment: Experiment, raw: Catalogue) -> None:
    split = experiment.prepare.split
    for key in ("train", "validation", "test"):
        if unknown := sorted(set(getattr(split, key)) - set(raw.realisations)):
            raise ConfigError(
                f"prepare.split.{key}: realisations {unknown} were not recorded; raw/ holds {list(raw.realisations)}"
            )
