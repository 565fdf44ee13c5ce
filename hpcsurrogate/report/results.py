"""What the report shows, read from the files of the stages before it, and nothing computed anew."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpcsurrogate.core.atomic import read_json
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.paths import RunPaths

COUPLING_KEYS = (
    "verdict", "helped", "correlation_threshold", "num_starts", "contenders", "best_classical", "learned", "equivalent"
)  # fmt: skip
CONTENDER_KEYS = (
    "name", "role", "kind", "host", "grid", "constant", "decorrelation_time", "decorrelation_interval", "reached_end",
    "effective_grid", "cost_ms_per_step", "cost_ms_per_time_unit", "cost_ratio_step", "spectrum_log_error",
    "energy_error", "enstrophy_error", "stable", "endurance", "ladder_of", "rollout_error", "rollout_error_interval",
    "similarity", "similarity_interval", "dissipation_error", "speed_up_over_classical",
)  # fmt: skip
SHARED_ARRAYS = ("times", "wavenumber", "spectrum_reference", "vorticity_times", "vorticity_reference")
CONTENDER_ARRAYS = (
    "correlation", "energy", "enstrophy", "reference_energy", "reference_enstrophy", "spectrum", "quantiles",
    "reference_quantiles",
)  # fmt: skip


@dataclass(frozen=True)
class Results:
    """All inputs of the report.

    Attributes
    ----------
    coupling : dict              couple.json
    fields : dict of ndarray     couple.npz: series (t,), spectra (k,), quantiles (2, q), vorticity (m, nx, ny)
    evaluation : dict            evaluate.json
    training : list of dict      metrics.jsonl, one per line
    unseen : dict                case -> content of its couple.json; empty without unseen cases
    """

    coupling: dict[str, Any]
    fields: dict[str, np.ndarray]
    evaluation: dict[str, Any]
    training: list[dict[str, Any]]
    unseen: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def num_dims(self) -> int:
        """Dimensions of the flow."""
        return len(self.contenders[self.bare]["grid"])

    @property
    def contenders(self) -> list[dict[str, Any]]:
        """All lines of the comparison; the index is the one in the names of `fields`."""
        return self.coupling["contenders"]

    def index(self, name: str) -> int:
        """Return the place of a contender in the list."""
        return [contender["name"] for contender in self.contenders].index(name)

    @property
    def bare(self) -> int:
        """The experiment's host without closure."""
        return [contender["role"] for contender in self.contenders].index("bare")

    @property
    def learned(self) -> int | None:
        """The learned closure, if there is one."""
        name = self.coupling["learned"]
        return None if name is None else self.index(name)

    @property
    def best_classical(self) -> int | None:
        """The best classical contender, if there is one."""
        name = self.coupling["best_classical"]
        return None if name is None else self.index(name)

    def drawing_order(self) -> list[int]:
        """Contenders without the ladders: those of the verdict first, then the others by decorrelation time."""
        first = [index for index in (self.learned, self.best_classical, self.bare) if index is not None]
        others = [i for i, contender in enumerate(self.contenders) if not on_a_ladder(contender) and i not in first]
        return first + sorted(others, key=lambda i: -self.contenders[i]["decorrelation_time"])

    def ladder(self, base: int | None = None) -> list[int]:
        """A contender, the bare host if none is named, on all its grids, from coarse to fine."""
        base = self.bare if base is None else base
        name = self.contenders[base]["name"]
        rungs = [base] + [i for i, contender in enumerate(self.contenders) if contender["ladder_of"] == name]
        return sorted(rungs, key=lambda i: self.contenders[i]["grid"][0])


def on_a_ladder(contender: dict[str, Any]) -> bool:
    """Whether a line is another one on a finer grid."""
    return contender["ladder_of"] is not None


def read_results(paths: RunPaths) -> Results:
    """Read couple.json, couple.npz, evaluate.json and metrics.jsonl of a run.

    Raises
    ------
    DataError    if a file is missing or damaged, or lacks a key the report needs (tests/unit/report/test_results.py)
    """
    coupling = read_json(paths.coupling)
    _require(coupling, COUPLING_KEYS, paths.coupling, "")
    for number, contender in enumerate(coupling["contenders"]):
        _require(contender, CONTENDER_KEYS, paths.coupling, f"contenders[{number}].")
    evaluation = read_json(paths.evaluation)
    _require(evaluation, ("closures",), paths.evaluation, "")
    fields = _read_arrays(paths.coupling_fields)
    _require(fields, SHARED_ARRAYS, paths.coupling_fields, "")
    for number in range(len(coupling["contenders"])):
        _require(fields, tuple(f"{name}/{number}" for name in CONTENDER_ARRAYS), paths.coupling_fields, "")
    unseen = _read_cases(paths.unseen) if paths.unseen.is_file() else {}
    for case, comparison in unseen.items():
        for number, contender in enumerate(comparison["contenders"]):
            _require(contender, CONTENDER_KEYS, paths.unseen, f"{case}.contenders[{number}].")
    return Results(coupling, fields, evaluation, _read_lines(paths.metrics), unseen)


def _read_cases(path: Path) -> dict[str, dict[str, Any]]:
    content = read_json(path)
    _require(content, ("cases",), path, "")
    return content["cases"]


def _require(content: Any, keys: tuple[str, ...], path: Path, where: str) -> None:
    missing = [key for key in keys if key not in content]
    if missing:
        raise DataError(f"{path}: key '{where}{missing[0]}' is missing; run the stage that writes it again")


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise DataError(f"{path}: file is missing; run `hpcsurrogate couple`") from None
    except Exception as error:  # numpy lets errors of zipfile, zlib and its own parser through
        raise DataError(f"{path}: damaged ({error}); run `hpcsurrogate couple` again") from None


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: file is missing; run `hpcsurrogate train`") from None
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}: line {number}: not JSON ({error}); train again") from None
        _require(record, ("phase", "step", "loss"), path, f"line {number}: ")
        records.append(record)
    return records
