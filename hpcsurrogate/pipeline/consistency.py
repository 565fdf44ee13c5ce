"""What the sections of an experiment promise each other: found in milliseconds, before hours of simulation."""

from hpcsurrogate.core.config import (
    Augmentation,
    CnnModel,
    DnsSource,
    Experiment,
    Filter,
    FiniteVolumeHost,
    ScaleEstimationModel,
    StressStencilModel,
    TensorBasisModel,
    Train,
    UnseenCase,
)
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.yaml_loader import AnyExperiment
from hpcsurrogate.physics.filter_widths import filter_widths

CLOSURES_OF_THREE_DIMENSIONS = ("wale", "vreman")
CLOSURES_OF_TWO_DIMENSIONS = ("leith",)


def check_consistency(experiment: AnyExperiment) -> None:
    """Check what no section can see alone. Files of other kinds than a flow have nothing of the sort.

    Raises
    ------
    ConfigError    naming the keys that do not fit together, and what to change
    """
    if not isinstance(experiment, Experiment):
        return
    _check_dimensions(experiment)
    _check_ranks(experiment)
    _check_filters(experiment)
    if isinstance(experiment.train.model, CnnModel):
        _check_cnn(experiment, experiment.train.model)
    if isinstance(experiment.train.model, ScaleEstimationModel):
        _check_scale_estimation(experiment)
    _check_stress_target(experiment.train)
    _check_augmentation(experiment)
    if isinstance(experiment.simulate, DnsSource):
        _check_realisations(experiment, experiment.simulate)
        _check_grids(experiment, experiment.simulate)
        _check_times(experiment, experiment.simulate)
    for case in experiment.unseen:
        _check_case(experiment, case)


def _check_case(experiment: Experiment, case: UnseenCase) -> None:
    """Every unseen case is an experiment that would stand by itself, but that its split is not used."""
    theirs = experiment.of_case(case)
    if not isinstance(theirs.simulate, DnsSource):
        raise ConfigError(f"unseen: case {case.name}: the experiment has no DNS of its own: give the case `simulate`")
    try:
        _check_dimensions(theirs)
        _check_grids(theirs, theirs.simulate)
        _check_times(theirs, theirs.simulate)
    except ConfigError as error:
        raise ConfigError(f"unseen: case {case.name}: {error}") from None
    if experiment.ranks > theirs.simulate.realisations * theirs.simulate.ranks_per_realisation:
        raise ConfigError(
            f"unseen: case {case.name}: {theirs.simulate.realisations} realisations for ranks: {experiment.ranks}; "
            "every rank records one at least: add realisations"
        )


def _check_dimensions(experiment: Experiment) -> None:
    num_dims = len(experiment.flow.domain)
    grids = {"host.grid": experiment.host.grid}
    if isinstance(experiment.simulate, DnsSource):
        grids["simulate.grid"] = experiment.simulate.grid
    foreign = CLOSURES_OF_THREE_DIMENSIONS if num_dims == 2 else CLOSURES_OF_TWO_DIMENSIONS
    for index, contender in enumerate(experiment.couple.contenders):
        if contender.closure.kind in foreign:
            raise ConfigError(
                f"couple.contenders.{index}.closure.kind: {contender.closure.kind} is for {5 - num_dims} dimensions, "
                f"flow.domain has {num_dims} lengths; leave it out"
            )
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
    num_dims = len(experiment.flow.domain)
    if patches is not None and patches.components > num_dims * patches.patch**num_dims:
        points = " x ".join([str(patches.patch)] * num_dims)
        raise ConfigError(
            f"train.model.principal_components.components: {patches.components} is more than the "
            f"{num_dims * patches.patch**num_dims} velocity components in a patch of {points} points"
        )


def _check_scale_estimation(experiment: Experiment) -> None:
    """What the network cuts off is what the filter cut off."""
    config = experiment.prepare.filter
    spacing = [length / points for length, points in zip(experiment.flow.domain, experiment.host.grid, strict=True)]
    widths = filter_widths(config, spacing)
    if config.kind != "sharp" or any(abs(a / b - 1) > 1e-9 for a, b in zip(widths, spacing, strict=True)):
        raise ConfigError(
            "train.model.kind: scale_estimation is for a sharp cut-off at the grid's own wavenumber; set "
            "prepare.filter: {kind: sharp}, or take stress_stencil"
        )


def _check_stress_target(train: Train) -> None:
    if train.apriori.target != "sgs_stress" or not train.apriori.epochs:
        return
    if not isinstance(train.model, TensorBasisModel | StressStencilModel | ScaleEstimationModel):
        raise ConfigError(
            f"train.apriori.target: sgs_stress, but train.model.kind: {train.model.kind} gives a force and no stress; "
            "take stress_stencil, scale_estimation or tensor_basis, or the target sgs_force"
        )
    if train.precision != "float32":
        raise ConfigError(
            f"train.precision: {train.precision} cannot be had with train.apriori.target: sgs_stress; "
            "set it to float32 or take the target sgs_force"
        )


def _check_augmentation(experiment: Experiment) -> None:
    apriori = experiment.train.apriori
    if apriori.augmentation.galilean:
        from hpcsurrogate.data.augment import require_invariant_target  # here, because it loads torch

        require_invariant_target(apriori.augmentation, [apriori.target])


def _check_realisations(experiment: Experiment, source: DnsSource) -> None:
    share = source.ranks_per_realisation
    if share > 1 and len(source.grid) == 2:
        raise ConfigError(f"simulate.ranks_per_realisation: {share}, but only a three-dimensional field is shared")
    if experiment.ranks % share:
        raise ConfigError(
            f"ranks: {experiment.ranks} is no multiple of simulate.ranks_per_realisation: {share}; change one of them"
        )
    if experiment.ranks > share * source.realisations:
        raise ConfigError(
            f"ranks: {experiment.ranks} is more than simulate.realisations: {source.realisations}"
            + (f" of {share} ranks each; " if share > 1 else "; ")
            + "each rank simulates its own realisations, so lower ranks or add realisations"
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
    for coarse, fine in zip(experiment.host.grid, source.grid, strict=True):
        if coarse >= fine:
            raise ConfigError(f"host.grid: {experiment.host.grid} is not coarser than simulate.grid: {source.grid}")
    ladders = {"couple.ladder": experiment.couple.ladder}
    for number, contender in enumerate(experiment.couple.contenders):
        ladders[f"couple.contenders.{number}.ladder"] = contender.ladder
    for key, ladder in ladders.items():
        for index, size in enumerate(ladder):
            if size > source.grid[0]:
                raise ConfigError(f"{key}.{index}: {size} is finer than simulate.grid: {source.grid}")


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
