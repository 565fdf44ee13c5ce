"""Scales of the prepared fields over the train split: gathered in one pass, merged over blocks and realisations.

Moments are count, mean and sum of squared deviations from the mean, merged after Chan, Golub and LeVeque (1979): a
small variance beside a large mean keeps its digits, which it would lose as the difference of two sums of squares.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.fields import FIELDS

FILE_NAME = "statistics.json"
# A component that varies less than this part of the field's largest value is constant as far as float32 can tell.
CONSTANT = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Moments:
    """One field over points and snapshots; arrays are (component,), float64, in powers of the field's unit.

    Attributes
    ----------
    num_snapshots : int
    count : int                        points of one component, over all snapshots
    mean : ndarray
    squared_deviations : ndarray       sum over the points of (value - mean)^2
    minimum, maximum : ndarray
    """

    num_snapshots: int
    count: int
    mean: np.ndarray
    squared_deviations: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Moments":
        """Moments of one snapshot, shape (component, nx, ny[, nz]), any float dtype, calculated in float64."""
        points = values.reshape(len(values), -1).astype(np.float64)
        mean = points.mean(1)
        squares = np.square(points - mean[:, None]).sum(1)
        return cls(1, points.shape[1], mean, squares, points.min(1), points.max(1))

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both together.

        To round-off the order does not matter; the same order gives the same bits (tests/unit/data/test_statistics.py).
        """
        count = self.count + other.count
        difference = other.mean - self.mean
        between = difference**2 * (self.count * (other.count / count))
        return Moments(
            self.num_snapshots + other.num_snapshots,
            count,
            self.mean + difference * (other.count / count),
            self.squared_deviations + other.squared_deviations + between,
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON types; `from_json` gives the same moments, bit for bit."""
        return {name: np.asarray(value).tolist() for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Moments":
        """Return the moments that `to_json` described."""
        counts = {name: int(content[name]) for name in ("num_snapshots", "count")}
        names = ("mean", "squared_deviations", "minimum", "maximum")
        return cls(**counts, **{name: np.array(content[name], dtype=np.float64) for name in names})


def merge_all(parts: Iterable[Mapping[str, Moments]]) -> dict[str, Moments]:
    """Merge the moments of several parts of the data, in the order given; at least one, all with the same fields."""
    merged: dict[str, Moments] = {}
    for part in parts:
        merged = {name: merged[name].merge(new) if name in merged else new for name, new in part.items()}
    return merged


class FieldStatistics(BaseModel):
    """One field over the train split: each tuple has one number per component, in the field's unit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int
    mean: tuple[float, ...]
    standard_deviation: tuple[float, ...]
    rms: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]

    @property
    def component_rms(self) -> float:
        """Root of the mean square over points and components [the field's unit]."""
        return float(np.sqrt(np.mean(np.square(self.rms))))


class Statistics(BaseModel):
    """What statistics.json holds: every prepared field over the train split."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_snapshots: int
    fields: dict[str, FieldStatistics]

    @property
    def velocity_rms(self) -> float:
        """Root mean square of a component of the filtered velocity [m/s]."""
        return self.fields["velocity"].component_rms

    @property
    def commutator_rms(self) -> float:
        """Root mean square of a component of the commutator [m/s^2]."""
        return self.fields["commutator"].component_rms

    @property
    def sgs_force_rms(self) -> float:
        """Root mean square of a component of the SGS force [m/s^2]."""
        return self.fields["sgs_force"].component_rms

    @property
    def sgs_stress_rms(self) -> float:
        """Root mean square of a component of the SGS stress [m^2/s^2]."""
        return self.fields["sgs_stress"].component_rms

    @classmethod
    def read(cls, path: str | Path) -> "Statistics":
        """Read statistics.json.

        Raises
        ------
        DataError    if it is missing, is no JSON, or lacks a key, naming file and key
        """
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise DataError(f"{path}: {key}: {first['msg']}; run prepare again") from None

    def write(self, path: str | Path) -> None:
        """Write statistics.json, old state or new one."""
        write_json_atomic(path, self.model_dump(mode="json"))


def summarise(parts: Iterable[Mapping[str, Moments]], num_dims: int = 2) -> Statistics:
    """Merge moments, in the order given, into statistics.

    Parameters
    ----------
    parts : iterable of dict field -> Moments    at least one; all with the same fields
    num_dims : int                               2 or 3, of the data; names the components in messages

    Raises
    ------
    DataError    if a component is constant to the precision of float32: a network can learn nothing from it and a scale
                 of zero divides nothing

    Notes
    -----
    Merged block by block in order, the result does not depend on the number of ranks
    (tests/parallel/test_data_room.py).
    """
    merged = merge_all(parts)
    fields = {name: _field_statistics(name, moments, num_dims) for name, moments in merged.items()}
    return Statistics(num_snapshots=next(iter(merged.values())).num_snapshots, fields=fields)


def _field_statistics(name: str, moments: Moments, num_dims: int) -> FieldStatistics:
    variance = moments.squared_deviations / moments.count
    _require_variation(name, moments, np.sqrt(variance), num_dims)
    return FieldStatistics(
        count=moments.count,
        mean=tuple(moments.mean.tolist()),
        standard_deviation=tuple(np.sqrt(variance).tolist()),
        rms=tuple(np.sqrt(moments.mean**2 + variance).tolist()),
        minimum=tuple(moments.minimum.tolist()),
        maximum=tuple(moments.maximum.tolist()),
    )


def _require_variation(name: str, moments: Moments, deviations: np.ndarray, num_dims: int) -> None:
    largest = max(np.abs(moments.minimum).max(), np.abs(moments.maximum).max())
    for component, deviation, mean in zip(FIELDS[name].components_in(num_dims), deviations, moments.mean, strict=True):
        if deviation <= CONSTANT * largest:
            raise DataError(
                f"prepare: component {component} of {name} is {mean:g} everywhere in the train split;"
                " choose other realisations in prepare.split.train, or a flow that varies"
            )
