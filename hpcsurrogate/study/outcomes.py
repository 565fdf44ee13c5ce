"""What became of a trial, as it stands in the trial's own folder: trial.json."""

from dataclasses import asdict, dataclass
from pathlib import Path

from hpcsurrogate.core.atomic import read_json, write_json_atomic


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Attributes
    ----------
    state : str              complete, pruned or failed
    reason : str             why it was pruned or failed, else empty
    objectives : tuple       of a complete one: error or score, then the cost if it is an objective
    closure_ms : float or None    one call of its closure on one thread [ms]
    network : str            digest of what decides that time
    curve : tuple            validation losses of the last phase
    """

    state: str
    reason: str = ""
    objectives: tuple[float, ...] = ()
    closure_ms: float | None = None
    network: str = ""
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
