"""What the sections of an experiment promise each other: found in milliseconds, before hours of simulation."""

from hpcsurrogate.core.config import Augmentation, CnnModel, DnsSource, Experiment, Filter, FiniteVolumeHost
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.filter_widths import filter_widths

STAGES_OF_ANY_DIMENSION = ("simulate", "prepare")


def check_consistency(experiment: Experiment) -> None:
    """Check what no section can see alone.

    Raises
    ------
    ConfigError    naming the keys that do not fit together, and what to change
    """
    _check_dimensions(experiment)
    _check_ranks(experiment)
    _check_filters(experiment)
    if isinstance(experiment.train.model, CnnModel):
        _check_cnn(experiment, experiment.train.model)
    _check_augmentation(experiment)
    if isinstance(experiment.simulate, DnsSource):
        _check_realisations(experiment, experiment.simulate)
        _check_grids(experiment, experiment.simulate)
        _check_times(experiment, experiment.simulate)


def require_two_dimensions(experiment: Experiment, stage: str) -> None:
    """Check that a stage can take the experiment's number of dimensions.

    Raises
    ------
    ConfigError    if the flow is three-dimensional and the stage needs a host solver, which is two-dimensional
    """
    if len(experiment.flow.domain) == 3 and stage not in STAGES_OF_ANY_DIMENSION:
        raise ConfigError(
            f"flow.domain: three-dimensional, but the stage {stage} needs a host solver, and those are two-dimensional "
            "so far; end with the stage prepare (run --until prepare)"
        )


def _check_dimensions(experiment: Experiment) -> None:
    num_dims = len(experiment.flow.domain)
    source = experiment.simulate
    if isinstance(source, DnsSource) and num_dims != 2:
        raise ConfigError(
            f"simulate.kind: dns is two-dimensional, but flow.domain has {num_dims} lengths; give two, or kind: well"
        )
    grids = {"host.grid": experiment.host.grid}
    for index, contender in enumerate(experiment.couple.contenders):
        if contender.host is not None:
            grids[f"couple.contenders.{index}.host.grid"] = contender.host.grid
    for key, grid in grids.items():
        if len(grid) != num_dims:
            raise ConfigError(f"{key}: {list(grid)} has {len(grid)} axes, but flow.domain has {num_dims} lengths")


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


def _check_filters(experiment: Experiment) -> None:
    """Every filter fits the host, and no two are the same: a face average, as wide as the cell, can come only once."""
    host = experiment.host
    spacing = [length / points for length, points in zip(experiment.flow.domain, host.grid, strict=True)]
    seen: dict[str, tuple[Filter, tuple[float, ...]]] = {}
    filters = {f"prepare.more_filters.{i}": config for i, config in enumerate(experiment.prepare.more_filters)}
    for key, config in {"prepare.filter": experiment.prepare.filter, **filters}.items():
        if config.kind == "face_average" and not isinstance(host, FiniteVolumeHost):
            raise ConfigError(f"{key}.kind: face_average is for a finite_volume host; take sharp, gaussian or box")
        widths = filter_widths(config, spacing, key)
        for earlier, (other, other_widths) in seen.items():
            equal = all(abs(a / b - 1) < 1e-9 for a, b in zip(widths, other_widths, strict=True))
            if equal and config.kind == other.kind:
                raise ConfigError(f"{key}: the same {config.kind} filter of the same width as {earlier}; leave it out")
        seen[key] = config, widths


def _check_cnn(experiment: Experiment, model: CnnModel) -> None:
    if "filter_width" in model.scalars and not experiment.prepare.more_filters:
        raise ConfigError(
            "train.model.scalars: filter_width is the same in all data without prepare.more_filters; "
            "add filters there or leave it out"
        )
    if "reynolds_number" in model.scalars and experiment.flow.viscosity == 0:
        raise ConfigError("train.model.scalars: reynolds_number does not exist at flow.viscosity: 0; leave it out")
    turns = experiment.train.apriori.augmentation != Augmentation()
    if "filter_width" in model.scalars and turns and experiment.flow.forcing.kind != "none":
        # What the force adds to the commutator does not turn with the flow, and is known for the host's filter alone.
        raise ConfigError(
            "train.apriori.augmentation: with train.model.scalars: filter_width only for a flow without forcing; "
            "leave one of them out"
        )
    patches = model.principal_components
    if patches is not None and patches.components > 2 * patches.patch**2:
        raise ConfigError(
            f"train.model.principal_components.components: {patches.components} is more than the "
            f"{2 * patches.patch**2} velocity components in a patch of {patches.patch} x {patches.patch} points"
        )


def _check_augmentation(experiment: Experiment) -> None:
    apriori = experiment.train.apriori
    if apriori.augmentation.galilean:
        from hpcsurrogate.data.augment import require_invariant_target  # here, because it loads torch

        require_invariant_target(apriori.augmentation, [apriori.target])


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
