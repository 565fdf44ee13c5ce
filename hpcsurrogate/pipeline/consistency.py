"""What the sections of an experiment promise each other: found in milliseconds, before hours of simulation."""

from hpcsurrogate.core.config import DnsSource, Experiment, FiniteVolumeHost
from hpcsurrogate.core.errors import ConfigError


def check_consistency(experiment: Experiment) -> None:
    """Check what no section can see alone.

    Raises
    ------
    ConfigError    naming the keys that do not fit together, and what to change
    """
    _check_ranks(experiment)
    _check_filter(experiment)
    if isinstance(experiment.simulate, DnsSource):
        _check_realisations(experiment, experiment.simulate)
        _check_grids(experiment, experiment.simulate)
        _check_times(experiment, experiment.simulate)


def _check_ranks(experiment: Experiment) -> None:
    if experiment.train.engine == "none" and experiment.ranks > 1:
        raise ConfigError(
            f"ranks: {experiment.ranks}, but train.engine: none trains alone; set ranks: 1 or engine: horovod"
        )
    for key, batch_size in (
        ("train.apriori.batch_size", experiment.train.apriori.batch_size),
        ("train.unrolled.batch_size", experiment.train.unrolled.batch_size),
    ):
        if batch_size % experiment.ranks:
            raise ConfigError(
                f"{key}: {batch_size} is no multiple of ranks: {experiment.ranks}; ranks take equal parts"
            )


def _check_filter(experiment: Experiment) -> None:
    if experiment.prepare.filter.kind == "face_average" and not isinstance(experiment.host, FiniteVolumeHost):
        raise ConfigError("prepare.filter.kind: face_average is for a finite_volume host; take sharp, gaussian or box")


def _check_realisations(experiment: Experiment, source: DnsSource) -> None:
    if experiment.ranks > source.realisations:
        raise ConfigError(
            f"ranks: {experiment.ranks} is more than simulate.realisations: {source.realisations}; "
            "each rank simulates its own realisations, so lower ranks or add realisations"
        )
    split = experiment.prepare.split
    for part in ("train", "validation", "test"):
        for number in getattr(split, part):
            if not 0 <= number < source.realisations:
                raise ConfigError(
                    f"prepare.split.{part}: realisation {number} does not exist; "
                    f"simulate.realisations: {source.realisations} numbers them 0 to {source.realisations - 1}"
                )


def _check_grids(experiment: Experiment, source: DnsSource) -> None:
    for axis in (0, 1):
        if experiment.host.grid[axis] >= source.grid[axis]:
            raise ConfigError(f"host.grid: {experiment.host.grid} is not coarser than simulate.grid: {source.grid}")
    for index, size in enumerate(experiment.couple.ladder):
        if size > source.grid[0]:
            raise ConfigError(f"couple.ladder.{index}: {size} is finer than simulate.grid: {source.grid}")


def _check_times(experiment: Experiment, source: DnsSource) -> None:
    if source.snapshot_interval > source.duration:
        raise ConfigError(f"simulate.snapshot_interval: {source.snapshot_interval} exceeds duration: {source.duration}")
    if experiment.couple.duration > source.duration * (1 + 1e-9):
        raise ConfigError(
            f"couple.duration: {experiment.couple.duration} is longer than simulate.duration: {source.duration}; "
            "there would be no fine data to compare with"
        )
    steps = source.snapshot_interval / experiment.host.time_step
    if abs(steps - round(steps)) > 1e-6 * steps or round(steps) < 1:
        raise ConfigError(
            f"host.time_step: {experiment.host.time_step} does not divide simulate.snapshot_interval: "
            f"{source.snapshot_interval}; the coarse run must meet every snapshot"
        )
