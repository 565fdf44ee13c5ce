"""The C++ header and the Fortran module give what Python gives, and tell their hosts what goes wrong."""

import re
import subprocess

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from hpcsurrogate.embed.artifact import Artifact, FallbackCounts, load_artifact
from tests.hosts.artifacts import LARGEST_GRADIENT
from tests.hosts.languages import HERE, NAMES, Answer, Language

SIZES = [(16, 16), (12, 20), (21, 9)]
ROUND_OFF = {"float32": 1e-6, "float64": 1e-14}


@pytest.fixture(scope="module", params=NAMES)
def language(request) -> Language:
    return Language.build(request.param)


def velocities(*sizes: tuple[int, ...]) -> list[tuple[np.ndarray]]:
    generator = np.random.default_rng(5)
    return [(generator.normal(size=(len(size), *size)),) for size in sizes]


def cells(number: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(6)
    return generator.normal(size=(number, 4)) * LARGEST_GRADIENT / 8, generator.uniform(0.05, 0.2, number)


def in_python(artifact: Artifact, case: tuple[np.ndarray, ...], dtype: str) -> tuple[np.ndarray, FallbackCounts]:
    """What a host whose arrays have this type should get."""
    is_grid = artifact.metadata.kind == "grid"
    arrays = [torch.from_numpy(array.astype(dtype)).to(artifact.golden_output.dtype) for array in case]
    output, counts = artifact.guarded(*(array[None] if is_grid else array for array in arrays))
    return (output[0] if is_grid else output).numpy(), counts


def assert_as_in_python(answer: Answer, artifact: Artifact, cases: list, dtype: str) -> None:
    assert answer.exit_code == 0, answer.messages
    assert len(answer.results) == len(cases)
    totals = np.zeros(3, dtype=int)
    for result, case in zip(answer.results, cases, strict=True):
        expected, counts = in_python(artifact, case, dtype)
        totals += counts
        tolerance = max(ROUND_OFF[dtype], ROUND_OFF[artifact.metadata.dtype]) * np.abs(expected).max()
        assert_allclose(result, expected, rtol=0, atol=tolerance)
    num_cells = sum(len(case[0]) if len(case) == 2 else case[0][0].size for case in cases)
    assert answer.messages == ["opened", f"counts {len(cases)} {num_cells} " + " ".join(map(str, totals))]


@pytest.mark.parametrize("mode", ["grid", "grid-in-place", "grid-ghosts"])
def test_a_field_gets_the_acceleration_that_python_gives(language, grid_artifact, mode):
    cases = velocities(*SIZES)
    answer = language.apply(grid_artifact, "float32", mode, cases)
    assert_as_in_python(answer, load_artifact(grid_artifact), cases, "float32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["box", "box-in-place"])
def test_a_field_in_three_dimensions_gets_the_acceleration_that_python_gives(language, box_artifact, mode, dtype):
    """Of different sizes along each axis, so that none can be taken for another, and with values to be counted."""
    cases = velocities((12, 10, 8), (5, 7, 9), (8, 8, 8))
    cases[0][0][1, 3, 4, 5], cases[1][0][2, 0, 6, 8] = np.nan, 60.0
    artifact = load_artifact(box_artifact)
    answer = language.apply(box_artifact, dtype, mode, cases)
    assert_as_in_python(answer, artifact, cases, dtype)
    _, calls, _, outside, not_finite, _ = answer.messages[-1].split()
    assert calls == "3" and int(outside) > 0 and int(not_finite) == 5**3  # the network reaches two cells


@pytest.mark.parametrize(
    ("artifact", "dtype"),
    [("grid_artifact", "float64"), ("grid_artifact64", "float64"), ("grid_artifact64", "float32")],
)
def test_a_host_may_have_another_precision_than_the_artifact(language, artifact, dtype, request):
    path, cases = request.getfixturevalue(artifact), velocities(*SIZES)
    assert_as_in_python(language.apply(path, dtype, "grid", cases), load_artifact(path), cases, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cells_get_the_stress_that_python_gives(language, pointwise_artifact, dtype):
    cases = [cells(7), cells(0), cells(100)]
    answer = language.apply(pointwise_artifact, dtype, "pointwise", cases)
    assert len(answer.messages[-1].split()) == 6
    done = [case for case in cases if len(case[0])]
    answer = answer._replace(results=[result for result in answer.results if len(result)])
    expected = load_artifact(pointwise_artifact)
    for result, case in zip(answer.results, done, strict=True):
        stress, _ = in_python(expected, case, dtype)
        assert_allclose(result, stress, rtol=0, atol=ROUND_OFF["float32"] * np.abs(stress).max())


def test_values_that_the_network_must_not_see_are_counted(language, grid_artifact):
    damaged, strong = (velocity.copy() for (velocity,) in velocities((40, 40), (40, 40)))
    damaged[0, 20, 20] = np.nan
    damaged[1, 5, 30] = np.inf
    strong[1, 10, 10] = 1e20
    artifact, cases = load_artifact(grid_artifact), [(damaged,), (strong,)]
    answer = language.apply(grid_artifact, "float32", "grid", cases)
    assert_as_in_python(answer, artifact, cases, "float32")
    assert all(np.isfinite(result).all() for result in answer.results)
    assert in_python(artifact, cases[0], "float32")[1].not_finite > 0
    assert in_python(artifact, cases[1], "float32")[1].outside > 0


def test_too_much_fallback_is_recoverable_and_says_how_much(language, grid_artifact):
    (velocity,) = velocities((16, 16))[0]
    answer = language.apply(grid_artifact, "float32", "grid", [(velocity,), (1000 * velocity,)])
    assert answer.exit_code == 0 and len(answer.results) == 1
    opened, message, counts = answer.messages
    kind, status, outside, words = message.split(maxsplit=3)
    assert (kind, status) == ("recoverable", "1") and "cells got the classical closure" in words
    assert 128 < int(outside) <= 256 and counts == f"counts 2 512 {outside} 0 0"


def test_arrays_that_do_not_fit_are_recoverable(language, pointwise_artifact):
    """Gradients in three dimensions for a closure in two: the host hears of it, and may go on."""
    gradient, width = cells(5)
    wrong = np.zeros((5, 9)), width
    answer = language.apply(pointwise_artifact, "float32", "pointwise", [(gradient, width), wrong])
    assert answer.exit_code == 0 and len(answer.results) == 1
    assert answer.messages[1].startswith("recoverable 2 0 ") and "velocity_gradient" in answer.messages[1]


def test_fortran_has_the_defaults_and_the_constants_of_the_c_header(library):
    program = Language.build("fortran").programs / "print_constants"
    printed = subprocess.run([program], capture_output=True, text=True, timeout=60, check=True).stdout
    lines = [line.split() for line in printed.splitlines()]
    in_fortran = {name: [float(value) for value in values] for name, *values in lines}
    header = (HERE.parents[1] / "hpcsurrogate/embed/native/include/hpcsurrogate.h").read_text()
    in_c = {name: [float(value)] for name, value in re.findall(r"\b(HPCS_[A-Z_]+) = (\d+)", header)}
    defaults = library.default_options()
    for name in (name for name, _ in defaults._fields_ if name != "struct_size"):
        value = getattr(defaults, name)
        in_c[name] = list(value) if hasattr(value, "__len__") else [float(value or 0)]  # no text is NULL
    no_options = ("HPCS_FLOAT", "HPCS_MAX_DIMS")  # of arrays, which Fortran describes for its user
    assert in_fortran == {name: value for name, value in in_c.items() if not name.startswith(no_options)}


def test_what_the_host_declares_is_held_against_what_the_artifact_says(language, grid_artifact, pointwise_artifact):
    """The programs declare staggered cells and one input in m/s, and the filter width of their first argument."""
    metadata = load_artifact(grid_artifact).metadata
    name, end = language.open(metadata.filter.width, grid_artifact)
    assert (name, end) == (f"0 {metadata.name}", "the solver lives")
    assert language.open(2 * metadata.filter.width, grid_artifact)[0].startswith("11 ")
    (units, _) = language.open(0.0, pointwise_artifact)
    assert units.startswith("11 ") and "'m/s'" in units
