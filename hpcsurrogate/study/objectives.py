"""What a search minimises or maximises."""

from dataclasses import dataclass
from typing import Literal

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
