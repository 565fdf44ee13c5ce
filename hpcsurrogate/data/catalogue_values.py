"""What each key of a catalogue may hold; a ValueError names the key and what was expected."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hpcsurrogate.core.fields import FIELDS

SCHEMA_VERSION = 2
MOST = 1 << 62  # bytes; half of what int64 holds
MOST_SNAPSHOTS = 1 << 40  # in a shard; those of as many shards as a catalogue can list add up within int64

_SHA256 = re.compile("[0-9a-f]{64}")


def require_keys(place: str, content: Any, expected: Iterable[str]) -> None:
    """Raise ValueError if an object lacks one of the keys or has another one, or if it is no object."""
    if not isinstance(content, dict):
        raise ValueError(f"{place}is {content!a:.60}, expected an object")
    if missing := [key for key in expected if key not in content]:
        raise ValueError(f"{place}{missing[0]}: the key is missing")
    if unknown := [key for key in content if key not in expected]:
        raise ValueError(f"{place}{unknown[0]!a:.60}: the key is unknown")


def require_values(place: str, content: Mapping[str, Any]) -> None:
    """Raise ValueError if a value is not what its key asks for."""
    for key, value in content.items():
        is_right, expected = _VALUES[key]
        if not is_right(value):
            raise ValueError(f"{place}{key}: is {value!a:.60}, expected {expected}")


def _is_natural(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= MOST


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _is_length(value: Any) -> bool:
    return _is_finite(value) and value >= 0


def _is_positive(value: Any) -> bool:
    return _is_finite(value) and value > 0


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_sha256(value: Any) -> bool:
    return type(value) is str and _SHA256.fullmatch(value) is not None


def _is_list(value: Any) -> bool:
    return type(value) is list


def _are_fields(value: Any) -> bool:
    return _is_list(value) and all(map(_is_text, value)) and 0 < len(value) == len(FIELDS.keys() & set(value))


def _are_parameters(value: Any) -> bool:
    return type(value) is dict and all(map(_is_finite, value.values()))


def _one_of(*allowed: Any) -> tuple[Callable[[Any], bool], str]:
    return lambda value: type(value) is type(allowed[0]) and value in allowed, " or ".join(map(str, allowed))


def _per_axis(is_right: Callable[[Any], bool], words: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: _is_list(value) and len(value) in (2, 3) and all(map(is_right, value)), f"two or three {words}"


_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "schema_version": _one_of(SCHEMA_VERSION),
    "realisations": (_is_list, "a list"),
    "realisation": (_is_natural, "a number from 0 on"),
    "snapshot_interval": (_is_positive, "a positive number"),
    "grid_shape": _per_axis(_is_count, "numbers of points"),
    "domain": _per_axis(_is_positive, "positive numbers"),
    "layout": _one_of("collocated", "staggered"),
    "fields": (_are_fields, "a list of known fields, such as velocity and sgs_force, each at most once"),
    "dtype": _one_of("float32", "float64"),
    "filter_kind": (_is_text, "the name of a filter"),
    "filter_width": _per_axis(_is_length, "numbers from 0 on"),
    "parameters": (_are_parameters, "names and their numbers"),
    "shards": (lambda value: _is_list(value) and len(value) > 0, "a list of shards"),
    "file": (_is_text, "the name of a file"),
    "size": (_is_count, "a number of bytes"),
    "sha256": (_is_sha256, "64 hexadecimal digits"),
    "first_snapshot": (lambda value: _is_natural(value) and value <= MOST_SNAPSHOTS, "a number from 0 on"),
    "num_snapshots": (lambda value: _is_count(value) and value <= MOST_SNAPSHOTS, "a number from 1 on"),
}
