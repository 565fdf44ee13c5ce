"""What a search minimises or maximises, and what became of a trial, as it stands in the trial's folder: trial.json."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.config import Tune


@dataclass(frozen=True)
class Objective:
    """One number of every complete trial."""

    name: str
    unit: str
    direction: Literal["minimize", "maximize"]

    @property
    def label(self) -> str:
        """Name and unit, as they stand in tables and figures."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name

    def best(self, values: list[float]) -> float:
        """The best of some values."""
        return min(values) if self.direction == "minimize" else max(values)


def objectives_of(tune: Tune) -> tuple[Objective, ...]:
    """Error or score of a search, then its cost if `tune.cost` says so."""
    if tune.objective == "apriori":
        both = Objective("validation loss", "", "minimize"), Objective("closure call", "ms", "minimize")
    else:
        both = (
            Objective("time to decorrelation", "s", "maximize"),
            Objective("cost of the coarse run", "ms per time unit", "minimize"),
        )
    return both if tune.cost else both[:1]


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Attributes
    ----------
    state : str              complete, pruned or failed
    reason : str             why it was pruned or failed, else empty
    objectives : tuple       of a complete one: error or score, then the cost if it is an objective
    closure_ms : float or None    one call of its closure on one thread [ms]
    curve : tuple            validation losses of the last phase
    """

    state: str
    reason: str = ""
    objectives: tuple[float, ...] = ()
    closure_ms: float | None = None
    curve: tuple[float, ...] = ()


def write_outcome(directory: Path, outcome: Outcome) -> None:
    """Write trial.json into a trial's folder."""
    write_json_atomic(directory / "trial.json", asdict(outcome))


def read_outcome(directory: Path) -> Outcome | None:
    """The outcome in a trial's folder; None if there is none yet.

    Raises
    ------
    DataError    if trial.json is damaged
    """
    file = directory / "trial.json"
    if not file.exists():
        return None
    content = read_json(file)
    return Outcome(**{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()})
