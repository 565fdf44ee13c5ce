"""The sections `tune` and `slurm` of the experiment file: many trainings, and jobs of a batch system."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hpcsurrogate.core.section import PositiveInt, Section


class Range(Section):
    """Numbers from `low` to `high`; whole ones if both are whole."""

    low: float | int
    high: float | int
    log: bool = Field(False, description="evenly spread over the logarithm")

    @model_validator(mode="after")
    def _ordered(self):
        if not self.low < self.high:
            raise ValueError("low must be less than high")
        if self.log and self.low <= 0:
            raise ValueError("log: low must be greater than 0")
        return self


class Choices(Section):
    """One of these values."""

    choices: Annotated[tuple[str | int | float | bool, ...], Field(min_length=2)]


class Tune(Section):
    """Search over keys of this file, each trial a training of its own."""

    parameters: Annotated[dict[str, Range | Choices], Field(min_length=1)] = Field(
        description="key of this file, such as train.apriori.learning_rate -> its range or choices"
    )
    objective: Literal["apriori", "aposteriori"] = Field(
        "apriori",
        description="best validation loss of the last phase; or time to the correlation of `couple` inside the solver",
    )
    cost: bool = Field(True, description="minimise the time of a closure call (a-posteriori: of the coarse run) too")
    trials: PositiveInt = 20
    prune: bool = Field(
        True, description="end a trial that is worse, at the same validation, than the median of the others"
    )


class Slurm(Section):
    """What `hpcsurrogate submit` asks SLURM for. Ranks and threads are the experiment's."""

    nodes: PositiveInt = 1
    time: Annotated[str, Field(pattern=r"^(\d+-)?\d+(:\d{2}){0,2}$")] = Field(
        "12:00:00", description="limit of each job, as sbatch takes it; training goes on in a new one"
    )
    partition: str | None = None
    account: str | None = None
    gpus_per_rank: Annotated[int, Field(ge=0)] = 0
    modules: tuple[str, ...] = Field((), description="modules that every job loads")
    setup: tuple[str, ...] = Field(
        (), description="shell lines that every job does first, such as source .venv/bin/activate"
    )
    options: tuple[str, ...] = Field((), description="more options of sbatch, such as --qos=long")
    max_requeues: PositiveInt = Field(
        3, description="times in a row that a job is queued again without a step of progress"
    )
