"""The file of a closure for single cells, trained on a fine run of OpenFOAM: its sections as typed, frozen models."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hpcsurrogate.core.config import Fallback, TensorBasisModel
from hpcsurrogate.core.section import NonNegativeFloat, PositiveFloat, PositiveInt, Section

Gains = Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)]
LEARNED = "learned"  # the name of the one among the models
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class OpenFoamSource(Section):
    """A fine run of OpenFOAM."""

    kind: Literal["openfoam"]
    case: str = Field(description="folder of the fine case, relative to this file; whole or decomposed")
    run: tuple[str, ...] = Field(
        (),
        description="commands that make the run, one after the other, in a copy of the case; none: it was made",
    )
    velocity: str = Field("U", description="name of the velocity's field")
    start: float | None = Field(None, description="first time that is read [s]; the first there is if not given")
    stop: float | None = Field(None, description="last time that is read [s]; the last there is if not given")

    @model_validator(mode="after")
    def _times_in_order(self):
        if self.start is not None and self.stop is not None and self.stop < self.start:
            raise ValueError("stop lies before start")
        return self


class CoarseMesh(Section):
    """What the fine run is averaged onto."""

    coarse: str = Field(
        description="folder of the coarse case, relative to this file, with its mesh and boundary conditions"
    )
    run: tuple[str, ...] = Field(
        (), description="commands that make its mesh, one after the other, in a copy of the case; none: it was made"
    )
    validation: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.25, description="share of the times, the last ones, that training and calibration do not see"
    )

    def num_training(self, num_times: int) -> int:
        """How many of so many times, the first ones, are for training."""
        return num_times - math.ceil(self.validation * num_times)


class GradientModel(Section):
    """Clark's model of cells of any shape: nothing in it is trained, a calibration may weigh its parts."""

    kind: Literal["gradient"]


class CellTraining(Section):
    """Regression on the stresses of cells."""

    model: Annotated[TensorBasisModel | GradientModel, Field(discriminator="kind")]
    epochs: PositiveInt = 20
    batch_size: PositiveInt = Field(4096, description="cells per step")
    learning_rate: PositiveFloat = 3e-3


class CellExport(Section):
    """The exported closure."""

    dtype: Literal["float32", "float64"] = Field("float64", description="type of its weights, arithmetic and results")
    fallback: Fallback = Fallback()


class Calibration(Section):
    """Gains on parts of the closure's stress: the best of all combinations in coarse runs, by the training times."""

    dissipation: Gains = Field((1.0,), description="on what takes energy from the strain")
    backscatter: Gains = Field((1.0,), description="on what gives energy back")
    rest: Gains = Field((1.0,), description="on what does no work")


class CoarseRuns(Section):
    """The same coarse case run with each model, from the same start."""

    run: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("pimpleFoam",), description="commands that make a run, one after the other, in a copy of the coarse case"
    )
    models: Annotated[tuple[ModelName, ...], Field(min_length=2)] = Field(
        description="NAME of files constant/turbulenceProperties.NAME of the coarse case; `learned` is one of them"
    )
    library: str = Field(
        "build/openfoam/libhpcsurrogateOpenFOAM.so",
        description="what `make openfoam` built, relative to this file",
    )
    discard: NonNegativeFloat = Field(description="time at the beginning of each run that is not scored [s]")
    average_over: tuple[Literal["x", "y", "z"], ...] = Field(
        (), description="directions along which the mean flow does not change"
    )

    @model_validator(mode="after")
    def _one_is_learned(self):
        if self.models.count(LEARNED) != 1 or len(set(self.models)) < len(self.models):
            raise ValueError("models are names, each once, and `learned` is one of them")
        return self


class CellExperiment(Section):
    """The whole file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    run_dir: str = Field(description="where everything is written, relative to the working directory")
    seed: int = 0
    ranks: PositiveInt = Field(1, description="ranks that `run` starts for the stages that can use them")
    threads_per_rank: PositiveInt = 1
    simulate: OpenFoamSource
    prepare: CoarseMesh
    train: CellTraining
    export: CellExport = CellExport()
    calibrate: Calibration | None = Field(None, description="gains found in coarse runs, which `couple` describes")
    couple: CoarseRuns | None = Field(None, description="the verdict: coarse runs; none: the closure is not judged")

    @model_validator(mode="after")
    def _calibrated_in_coarse_runs(self):
        if self.calibrate is not None and self.couple is None:
            raise ValueError("calibrate needs couple, which says what a coarse run is")
        return self
