"""The file of a constitutive law, trained on runs of LAMMPS: its sections as typed, frozen models.

Quantities are in the units of the LAMMPS scripts (`simulate.units`); in `lj` everything is reduced.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from hpcsurrogate.core.section import NonNegativeFloat, PositiveFloat, PositiveInt, Section

Values = Annotated[tuple[float, ...], Field(min_length=1)]
Names = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Component = Literal["xx", "xy", "xz", "yx", "yy", "yz", "zx", "zy", "zz"]
Axis = Literal["x", "y", "z"]
SixColumns = tuple[str, str, str, str, str, str]
Discard = Annotated[float, Field(ge=0, lt=1, description="share of the record, the first of it: start-up")]
Blocks = Annotated[int, Field(ge=4, description="averages of which the standard error is taken")]
HeldOut = Annotated[
    tuple[dict[Names, float], ...],
    Field(description="states that training never sees: runs with these values of variables"),
]


class Sweep(Section):
    """Runs of one script at every combination of the values of its variables."""

    grid: Annotated[dict[Names, Values], Field(min_length=1)] = Field(
        description="variables of the script and their values; a run for every combination"
    )
    variables: dict[Names, float | int | str] = Field(
        {}, description="variables that are the same in all of these runs"
    )
    seeds: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = Field(
        (1,), description="values of the variable `seed`: runs of the same state that differ in their starts"
    )

    @model_validator(mode="after")
    def _named_once(self):
        if twice := sorted({*self.grid, "seed"} & set(self.variables)):
            raise ValueError(f"{twice[0]} stands in variables, and in grid or seeds")
        return self


class LammpsSource(Sweep):
    """A sweep of LAMMPS runs."""

    kind: Literal["lammps"]
    script: str = Field(description="input script, relative to this file; it is given every variable by `-var`")
    command: str = Field("lmp", description="what starts LAMMPS, such as `lmp` or `mpirun -np 2 lmp`")
    units: Literal["lj", "real", "metal", "si", "electron"] = "lj"
    more: tuple[Sweep, ...] = Field((), description="further sweeps, such as a few long runs beside many short ones")
    failed: Literal["stop", "leave_out"] = Field(
        "stop", description="what a run that LAMMPS ended early does to the others"
    )


class ShearIngest(Section):
    """Runs of homogeneous shear: one sample a run, from the rows of a `fix ave/time`."""

    kind: Literal["shear"] = "shear"
    averages: str = Field("averages.txt", description="file of `fix ave/time` in the folder of each run")
    density: str = Field("density", description="column of it, or variable of the sweep")
    temperature: str = Field("temperature", description="column of it, or variable of the sweep")
    pressure: SixColumns = Field(
        ("pxx", "pxy", "pxz", "pyy", "pyz", "pzz"),
        description="columns of it: the pressure tensor, xx, xy, xz, yy, yz, zz",
    )
    gradient: dict[Component, str] = Field(
        {"xy": "rate"}, description="du_i/dx_j at key ij: column of it, or variable of the sweep; others are zero"
    )
    discard: Discard = 0.2
    blocks: Blocks = 16
    held_out: HeldOut = ()


class SliceIngest(Section):
    """Runs in a channel: a sample for each slice across it, but for those at the walls. Base of both kinds."""

    axis: Axis = Field("y", description="across the channel: slices lie one after the other along it")
    flow: Axis = Field("x", description="of the flow: its gradient across is taken, others are zero")
    wall_layer: NonNegativeFloat = Field(
        4.0, description="at either end of the fluid, left out: it lies in layers there"
    )
    discard: Discard = 0.2
    blocks: Blocks = 16
    held_out: HeldOut = ()

    @model_validator(mode="after")
    def _flow_along_slices(self):
        if self.axis == self.flow:
            raise ValueError(f"the flow is along {self.flow}, across the slices; make axis and flow differ")
        return self


class ChunkIngest(SliceIngest):
    """Slices that LAMMPS averaged."""

    kind: Literal["chunks"]
    file: str = Field(
        "slices.txt",
        description="of `fix ave/chunk` in the folder of each run: density/number density/mass vx vy vz temp, stress",
    )
    stress: SixColumns = Field(
        ("c_stress[1]", "c_stress[4]", "c_stress[5]", "c_stress[2]", "c_stress[6]", "c_stress[3]"),
        description="columns of `compute stress/atom NULL`, kinetic part included: xx, xy, xz, yy, yz, zz",
    )


class DumpIngest(SliceIngest):
    """Slices of a dump."""

    kind: Literal["dump"]
    file: str = Field("atoms.dump", description="of `dump custom` in the folder of each run, also .gz")
    width: PositiveFloat = Field(description="of a slice, rounded so that slices fill the box")
    virial: SixColumns = Field(
        ("c_virial[1]", "c_virial[4]", "c_virial[5]", "c_virial[2]", "c_virial[6]", "c_virial[3]"),
        description="columns of `compute stress/atom NULL virial`, without kinetic part: xx, xy, xz, yy, yz, zz",
    )
    masses: tuple[PositiveFloat, ...] = Field(
        (), description="of atom types 1, 2, ..., for a dump without the column mass"
    )


def _kind_of(section: Any) -> str:
    """Files that do not say what their runs are have homogeneous ones."""
    return str(section.get("kind", "shear") if isinstance(section, dict) else getattr(section, "kind", "shear"))


# How runs become samples of the law.
LammpsIngest = Annotated[
    Annotated[ShearIngest, Tag("shear")] | Annotated[ChunkIngest, Tag("chunks")] | Annotated[DumpIngest, Tag("dump")],
    Discriminator(_kind_of),
]


class ViscousLawModel(Section):
    """Stress from density, temperature and strain rate: tensor basis of the strain rate, non-negative dissipation."""

    kind: Literal["viscous_law"]
    channels: PositiveInt = 32
    hidden_layers: PositiveInt = 2


class LawTraining(Section):
    """Regression on the stresses of runs, each weighted by its error."""

    model: ViscousLawModel
    members: PositiveInt = Field(5, description="networks of the ensemble, spread over the ranks")
    epochs: PositiveInt = 3000
    learning_rate: PositiveFloat = 1e-2
    initialise_from: str | None = Field(
        None, description="law.pt of another fluid, relative to this file: where the members start, and are held to"
    )


class Proposals(Section):
    """Which runs the law would gain most from, and how often they are done unattended."""

    runs: PositiveInt = Field(4, description="runs of a round")
    rounds: Annotated[int, Field(ge=0)] = Field(
        0, description="rounds that `run` does: the runs join the sweep, and the law is fitted again"
    )
    variables: dict[Names, float | int | str] = Field(
        {}, description="variables of these runs, where they are not those of `simulate.variables`"
    )


class ChannelCase(Section):
    """A channel of LAMMPS that training never sees, which the laws must predict: in units lj, atoms of mass 1."""

    script: str = Field(description="input script, relative to this file; leaves a file of `fix ave/chunk` in slices")
    variables: dict[Names, float | int | str] = Field({}, description="variables of both runs")
    speed: PositiveFloat = Field(description="variable of the run whose walls move: of either wall, opposite ways")
    force: PositiveFloat = Field(description="variable of the run that is predicted: on every atom of the fluid")
    profile: str = Field("profile.txt", description="file of `fix ave/chunk` in the folder of each run")
    wall_layer: PositiveFloat = Field(4.0, description="at either wall, not compared: the fluid lies in layers there")
    cells: Annotated[int, Field(ge=3)] = Field(200, description="of the continuum, wall to wall")

    @model_validator(mode="after")
    def _named_once(self):
        if twice := sorted({"speed", "force", "seed"} & set(self.variables)):
            raise ValueError(f"{twice[0]} stands in variables, and has a key or a meaning of its own")
        return self


class FluidExperiment(Section):
    """The whole file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    run_dir: str = Field(description="where everything is written, relative to the working directory")
    seed: int = 0
    ranks: PositiveInt = Field(1, description="ranks that `run` starts for the stages that can use them")
    threads_per_rank: PositiveInt = 1
    simulate: LammpsSource
    ingest: LammpsIngest = ShearIngest()
    train: LawTraining
    propose: Proposals | None = Field(None, description="the next runs; none: nothing is proposed")
    couple: ChannelCase | None = Field(None, description="a channel to compare the laws in; none: held-out runs decide")

    @model_validator(mode="after")
    def _one_space_of_states(self):
        if self.propose is None:
            return self
        if not isinstance(self.ingest, ShearIngest):
            raise ValueError("propose needs runs whose state is known beforehand: ingest.kind shear")
        first = set(self.simulate.grid)
        if strange := sorted(name for sweep in self.simulate.more for name in first ^ set(sweep.grid)):
            raise ValueError(f"propose needs the same variables in every grid; {strange[0]} stands in some alone")
        if twice := sorted({*first, "seed"} & set(self.propose.variables)):
            raise ValueError(f"{twice[0]} stands in propose.variables, but is what propose chooses")
        return self

    @model_validator(mode="after")
    def _channel_in_lj(self):
        if self.couple is not None and self.simulate.units != "lj":
            raise ValueError(f"couple compares channels in units lj alone, simulate.units is {self.simulate.units}")
        return self
