"""The experiment file as typed, frozen models: one YAML file is one experiment, its sections are the stages.

Every model forbids unknown keys. Lengths are in metres, times in seconds, velocities in m/s; a
non-dimensional study simply reads them as units of its own.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

# Every section can be had from this module; those of `flow`, `host`, `train`, `tune` and `slurm` stand in files of
# their own.
from hpcsurrogate.core.config_flow import (  # noqa: F401
    ConstantPowerForcing,
    FiniteVolumeHost,
    Flow,
    Forcing,
    Host,
    Hyperviscosity,
    KolmogorovForcing,
    NoForcing,
    RingForcing,
    SpectralHost,
)
from hpcsurrogate.core.config_jobs import Choices, Range, Slurm, Tune  # noqa: F401
from hpcsurrogate.core.config_train import (  # noqa: F401
    Apriori,
    Augmentation,
    CnnModel,
    DampingModel,
    DeconvolutionModel,
    FourierOperatorModel,
    LearningRateScaling,
    Model,
    OnDivergence,
    PrincipalComponents,
    QuadraticStencilModel,
    ResidualModel,
    ScaleEstimationModel,
    StressStencilModel,
    TensorBasisModel,
    Train,
    Transfer,
    Unrolled,
)
from hpcsurrogate.core.section import (
    Compression,
    EvenInt,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Section,
    Shape,
)

# --- simulate -------------------------------------------------------------------------------------------------


class DnsSource(Section):
    """Pseudo-spectral DNS of the flow. Every realisation starts from its own random field."""

    kind: Literal["dns"]
    grid: Shape
    realisations: PositiveInt = Field(4, description="independent runs, spread over the ranks")
    ranks_per_realisation: PositiveInt = Field(
        1, description="ranks that share the field of one run in slabs, for a field beyond the memory of a node (3-D)"
    )
    initial: Literal["random", "taylor_green"] = "random"
    duration: PositiveFloat = Field(description="recorded time of each realisation [s]")
    snapshot_interval: PositiveFloat = Field(description="[s]")
    spin_up: NonNegativeFloat = Field(0.0, description="time thrown away before recording, on the full grid [s]")
    spin_up_coarse: NonNegativeFloat = Field(0.0, description="time run before that, on a grid 4 times coarser [s]")
    initial_wavenumber: PositiveInt = Field(4, description="peak of the random initial spectrum [2 pi / L]")
    initial_velocity: PositiveFloat = Field(1.0, description="root mean square of the initial velocity [m/s]")
    time_step: PositiveFloat | None = Field(None, description="fixed step [s]; without it the step follows `cfl`")
    cfl: PositiveFloat = Field(0.5, description="largest |u| dt / dx; a fixed step that exceeds it ends the run")
    precision: Literal["float32", "float64"] = "float32"
    device: Literal["cpu", "cuda"] = "cpu"
    compression: Compression = Field("none", description="of raw/; zstd and blosc need the extra `compression`")


class WellSource(Section):
    """Your own data: HDF5 files in the layout of The Well, with a velocity field on a periodic uniform grid."""

    kind: Literal["well"]
    files: Annotated[tuple[str, ...], Field(min_length=1)] = Field(description="paths, relative to the experiment file")
    velocity: str | Annotated[tuple[str, ...], Field(min_length=2, max_length=3)] = Field(
        "velocity", description="the velocity's name in t1_fields, or the names of its components in t0_fields"
    )
    snapshots_per_shard: PositiveInt = Field(128, description="snapshots in a file of raw/: the unit of work of a rank")
    compression: Compression = Field("none", description="of raw/; zstd and blosc need the extra `compression`")


Source = Annotated[DnsSource | WellSource, Field(discriminator="kind")]


# --- prepare --------------------------------------------------------------------------------------------------


class Filter(Section):
    """Width in metres, or as a multiple of the coarse grid spacing (the default); never both."""

    kind: Literal["sharp", "gaussian", "box", "face_average"] = "face_average"
    width: PositiveFloat | None = Field(None, description="[m]")
    width_over_spacing: PositiveFloat | None = Field(None, description="width / coarse spacing; 1 if neither is given")

    @model_validator(mode="after")
    def _one_width(self):
        if self.width is not None and self.width_over_spacing is not None:
            raise ValueError("give width or width_over_spacing, not both")
        return self


class Split(Section):
    """Realisations (by number) that training, validation and the a-posteriori test may see. They must not overlap."""

    train: Annotated[tuple[int, ...], Field(min_length=1)]
    validation: Annotated[tuple[int, ...], Field(min_length=1)]
    test: Annotated[tuple[int, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _disjoint(self):
        names = self.train + self.validation + self.test
        if len(set(names)) != len(names):
            raise ValueError("a realisation stands in more than one of train, validation and test")
        return self


class Prepare(Section):
    filter: Filter = Field(Filter(), description="what the host means by its velocity")
    more_filters: tuple[Filter, ...] = Field(
        (), description="in the same pass, into prepared/filter-1, ...; for a model with the scalar filter_width"
    )
    split: Split
    snapshots_per_shard: PositiveInt = Field(128, description="snapshots in a file: the unit of work of a rank")
    compression: Compression = Field("none", description="of prepared/; zstd and blosc need the extra `compression`")


# --- evaluate, couple -------------------------------------------------------------------------------------------


class NoClosure(Section):
    kind: Literal["none"]


class Smagorinsky(Section):
    kind: Literal["smagorinsky"]
    constant: PositiveFloat | Literal["tuned"] = "tuned"


class DynamicSmagorinsky(Section):
    kind: Literal["dynamic_smagorinsky"]


class Leith(Section):
    kind: Literal["leith"]
    constant: PositiveFloat | Literal["tuned"] = "tuned"


class Wale(Section):
    """Wall-adapting local eddy viscosity (3-D)."""

    kind: Literal["wale"]
    constant: PositiveFloat | Literal["tuned"] = "tuned"


class Vreman(Section):
    """Vreman's eddy viscosity (3-D)."""

    kind: Literal["vreman"]
    constant: PositiveFloat | Literal["tuned"] = "tuned"


class Gradient(Section):
    """Gradient (Clark) model: Taylor series of the filter to second or fourth order in the width."""

    kind: Literal["gradient"]
    order: Literal[2, 4] = 2
    regularised: bool = Field(False, description="takes out, cell by cell, what gives energy back (backscatter)")


class Mixed(Section):
    """The gradient model of second order plus Smagorinsky's."""

    kind: Literal["mixed"]
    constant: PositiveFloat | Literal["tuned"] = "tuned"


class HyperviscousClosure(Section):
    """Damping rate (k/kmax)^(2 power) as a closure, so that any host can take it."""

    kind: Literal["hyperviscosity"]
    rate: PositiveFloat | Literal["tuned"] = "tuned"
    power: PositiveInt | Literal["tuned"] = 4


class Learned(Section):
    """A trained closure, called through its file."""

    kind: Literal["learned"]
    artifact: str | None = Field(
        None, description="path, relative to the working directory; without it the one that this experiment exports"
    )


Closure = Annotated[
    NoClosure
    | Smagorinsky
    | DynamicSmagorinsky
    | Leith
    | Wale
    | Vreman
    | Gradient
    | Mixed
    | HyperviscousClosure
    | Learned,
    Field(discriminator="kind"),
]


class Contender(Section):
    """One line of the comparison: a closure in a host. Without `host` it is the experiment's own."""

    name: str
    closure: Closure
    host: Host | None = None
    ladder: tuple[EvenInt, ...] = Field((), description="grids nx on which the same runs too: its price of accuracy")


class Couple(Section):
    duration: PositiveFloat = Field(description="length of each coarse run [s]")
    starts: PositiveInt = Field(4, description="starts from each test realisation, evenly spaced")
    correlation: Annotated[float, Field(gt=0, lt=1)] = Field(0.95, description="vorticity correlation to stay above")
    contenders: Annotated[tuple[Contender, ...], Field(min_length=1)]
    ladder: tuple[EvenInt, ...] = Field((), description="grids nx of the bare host, for the effective resolution")
    lengthen_steps: bool = Field(
        True, description="every run takes the longest time step that costs it no accuracy, found on validation data"
    )
    long_run: NonNegativeFloat = Field(
        5.0, description="learned closures run on, for so many times `duration`, and must stay finite; 0: they do not"
    )

    @model_validator(mode="after")
    def _names_differ(self):
        names = [contender.name for contender in self.contenders]
        if len(set(names)) != len(names):
            raise ValueError("two contenders have the same name")
        return self


# --- generalise -----------------------------------------------------------------------------------------------------


class UnseenCase(Section):
    """A flow that training never saw: recorded anew and run with every contender, nothing tuned again.

    What is not given is the experiment's own. Hosts that contenders have of their own follow `host` in proportion.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    flow: Flow | None = None
    host: Host | None = None
    simulate: DnsSource | None = Field(None, description="all its realisations are run from")
    duration: PositiveFloat | None = Field(None, description="length of each coarse run [s]")
    starts: PositiveInt | None = Field(None, description="starts from each realisation")


# --- export ---------------------------------------------------------------------------------------------------------


class Fallback(Section):
    """The classical closure of cells whose input is not finite or outside the trained range, in every host."""

    kind: Literal["smagorinsky"] = "smagorinsky"
    constant: NonNegativeFloat = 0.17


class Export(Section):
    """Forms of the exported closure."""

    dtype: Literal["float32", "float64"] = Field("float32", description="type of its weights, arithmetic and results")
    formats: tuple[Literal["pt2", "safetensors"], ...] = Field(
        (), description="written beside model.pt: code compiled for this kind of processor; the weights alone"
    )
    fallback: Fallback = Fallback()


# --- the experiment ---------------------------------------------------------------------------------------------


class Experiment(Section):
    """The whole file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    run_dir: str = Field(description="where everything is written, relative to the working directory")
    seed: int = 0
    ranks: PositiveInt = Field(1, description="MPI ranks that `hpcsurrogate run` starts for the stages that want them")
    threads_per_rank: PositiveInt = 1
    flow: Flow
    host: Host
    simulate: Source
    prepare: Prepare
    train: Train
    export: Export = Export()
    couple: Couple
    unseen: tuple[UnseenCase, ...] = Field((), description="flows that training never saw, for the stage generalise")
    tune: Tune | None = None
    slurm: Slurm = Slurm()

    @model_validator(mode="after")
    def _cases_differ(self):
        names = [case.name for case in self.unseen]
        if len(set(names)) != len(names):
            raise ValueError("two unseen cases have the same name")
        return self

    def of_case(self, case: UnseenCase) -> "Experiment":
        """Return the experiment that records an unseen case, from random starts of its own, and runs the contenders.

        It has no ladders and no further cases, and runs at the given time steps. Where the case has a host, grids and
        time steps of the hosts that contenders have of their own change in the same proportion as the experiment's.
        """
        contenders = tuple(
            contender.model_copy(update={"ladder": (), "host": self._carried_over(contender.host, case.host)})
            for contender in self.couple.contenders
        )
        couple = {"contenders": contenders, "ladder": (), "lengthen_steps": False}
        couple |= {key: value for key in ("duration", "starts") if (value := getattr(case, key)) is not None}
        sections = {key: value for key in ("flow", "host", "simulate") if (value := getattr(case, key)) is not None}
        return self.model_copy(
            update=sections
            | {
                "run_dir": f"{self.run_dir}/unseen/{case.name}",
                "seed": self.seed + 1 + self.unseen.index(case),
                "couple": self.couple.model_copy(update=couple),
                "unseen": (),
            }
        )

    def _carried_over(self, host: Host | None, theirs: Host | None) -> Host | None:
        if host is None or theirs is None or len({len(h.grid) for h in (host, theirs, self.host)}) > 1:
            return host  # other dimensions are refused by pipeline/consistency.py
        ratios = [new / old for new, old in zip(theirs.grid, self.host.grid, strict=True)]
        grid = tuple(2 * round(n * ratio / 2) for n, ratio in zip(host.grid, ratios, strict=True))
        time_step = host.time_step * theirs.time_step / self.host.time_step
        return host.model_copy(update={"grid": grid, "time_step": time_step})
