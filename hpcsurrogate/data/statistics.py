"""Scales of the prepared fields over the train split, gathered in one pass and merged over realisations and ranks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.fields import FIELDS


@dataclass(frozen=True)
class Moments:
    """Sums of one field over points and snapshots; arrays are (component,), float64, in powers of the field's unit."""

    num_snapshots: int
    count: int
    total: np.ndarray
    total_square: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray

    @classmethod
    def of(cls, values_cxy: np.ndarray) -> "Moments":
        """Moments of one snapshot, shape (component, nx, ny), any float dtype, summed in float64."""
        points = values_cxy.reshape(len(values_cxy), -1).astype(np.float64)
        return cls(1, points.shape[1], points.sum(1), np.square(points).sum(1), points.min(1), points.max(1))

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both together; to round-off the order does not matter (tests/unit/data/test_statistics.py)."""
        return Moments(
            self.num_snapshots + other.num_snapshots,
            self.count + other.count,
            self.total + other.total,
            self.total_square + other.total_square,
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
        )


class FieldStatistics(BaseModel):
    """One field over the train split: each tuple has one number per component, in the field's unit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int
    mean: tuple[float, ...]
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


def summarise(parts: Iterable[Mapping[str, Moments]]) -> Statistics:
    """Merge moments, in the order given, into statistics.

    Parameters
    ----------
    parts : iterable of dict field -> Moments    at least one; all with the same fields

    Raises
    ------
    DataError    if a component is constant: a network can learn nothing from it and a scale of zero divides nothing

    Notes
    -----
    Merged realisation by realisation, the result does not depend on the number of ranks
    (tests/parallel/test_data_room.py).
    """
    first, *others = parts
    merged = dict(first)
    for part in others:
        merged = {name: merged[name].merge(part[name]) for name in merged}
    num_snapshots = next(iter(merged.values())).num_snapshots
    return Statistics(
        num_snapshots=num_snapshots, fields={name: _field_statistics(name, m) for name, m in merged.items()}
    )


def _field_statistics(name: str, moments: Moments) -> FieldStatistics:
    for component, low, high in zip(FIELDS[name].components, moments.minimum, moments.maximum, strict=True):
        if low == high:
            raise DataError(
                f"prepare: component {component} of {name} is {low:g} everywhere in the train split;"
                " choose other realisations in prepare.split.train, or a flow that varies"
            )
    return FieldStatistics(
        count=moments.count,
        mean=tuple((moments.total / moments.count).tolist()),
        rms=tuple(np.sqrt(moments.total_square / moments.count).tolist()),
        minimum=tuple(moments.minimum.tolist()),
        maximum=tuple(moments.maximum.tolist()),
    )
