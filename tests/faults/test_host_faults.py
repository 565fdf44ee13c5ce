"""Faults of a solver that has a closure embedded: what it hands over, and what it does around the calls."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.hosts import artifacts, native

PROJECT = Path(native.__file__).parent / "native_api"
SHAPE = (1, 2, 16, 16)


@pytest.fixture(scope="module")
def host_builds():
    import host_builds  # in scripts/, which conftest.py has put on the path

    return host_builds


@pytest.fixture(scope="module")
def grid_artifact(tmp_path_factory) -> Path:
    return artifacts.write_grid(tmp_path_factory.mktemp("grid") / "model.pt")


@pytest.fixture(scope="module")
def pointwise_artifact(tmp_path_factory) -> Path:
    return artifacts.write_pointwise_2d(tmp_path_factory.mktemp("pointwise") / "pointwise.pt")


@pytest.fixture
def closure(host_builds, grid_artifact):
    library = native.Library(host_builds.native_build())
    yield library.open(grid_artifact)
    library.close()


def tame_field() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, SHAPE).astype(np.float32)


def lives_on(closure, before: np.ndarray) -> bool:
    """Whether the solver's next call is what it was before the fault."""
    output = np.empty(SHAPE, np.float32)
    return closure.apply([tame_field()], output).status == native.OK and np.array_equal(output, before)


@pytest.mark.fault(41, "NaN, infinity or 1e20 in the state of a host")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20, 3e38])
def test_a_broken_value_gets_the_classical_closure_in_its_place(value, closure, fault):
    before, output = np.empty(SHAPE, np.float32), np.empty(SHAPE, np.float32)
    closure.apply([tame_field()], before)
    for broken in [(0, 0, 3, 3), (0, 1, 15, 0), (0, 0)]:
        velocity = tame_field()
        velocity[broken] = value
        result = closure.apply([velocity], output)
        assert result.status in (native.OK, native.TOO_MUCH_FALLBACK) and sum(result.counts[2:]) > 0
        assert np.isfinite(output).all() and lives_on(closure, before)
        fault.withstood()


WRONG = {
    "type": {"dtype": 7},
    "stride": {"strides": (512, 256, -16, 1)},
    "axes": {"num_dims": 2},
    "components": {"shape": (1, 3, 16, 16)},
    "null": {"data": None},
}


@pytest.mark.fault(41, "an array that is empty, or of a wrong type, shape or stride")
def test_a_wrong_array_is_an_error_code_and_the_solver_lives(closure, fault):
    before = np.empty(SHAPE, np.float32)
    closure.apply([tame_field()], before)
    for change in WRONG.values():
        array, output = native.array_of(tame_field()), np.full(SHAPE, 7, np.float32)
        for name, value in change.items():
            setattr(array, name, type(getattr(array, name))(*value) if isinstance(value, tuple) else value)
        result = closure.apply([array], output)
        assert result.status == native.BAD_ARGUMENT and result.error and (output == 7).all()
        assert lives_on(closure, before)
        fault.withstood()
    empty = np.empty((0, 2, 16, 16), np.float32)
    assert closure.apply([empty], empty).status == native.OK and lives_on(closure, before)
    fault.withstood()


@pytest.mark.fault(42, "input outside the trained range")
def test_cells_outside_the_range_fall_back_alone_and_are_counted(closure, fault):
    velocity, plain, output = tame_field(), np.empty(SHAPE, np.float32), np.empty(SHAPE, np.float32)
    closure.apply([velocity], plain)
    for cell in [(4, 4), (0, 0), (15, 8)]:
        fast = velocity.copy()
        fast[0, :, cell[0], cell[1]] = 1e3
        result = closure.apply([fast], output)
        assert result.status == native.OK and 0 < result.counts[2] < 16 and result.counts[3:] == (0, 0)
        # Beyond the network's reach, five cells, nothing has changed.
        far = (cell[0] + 8) % 16, (cell[1] + 8) % 16
        np.testing.assert_array_equal(output[0, :, far[0], far[1]], plain[0, :, far[0], far[1]])
        assert np.isfinite(output).all()
        fault.withstood()
    assert closure.total()[2] > 0


def run(program: Path, *arguments) -> str:
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.fault(43, "floating-point traps on, one OpenMP thread and two: no signal, the host's state as it was")
@pytest.mark.parametrize("threads", [1, 2])
def test_traps_and_threads_of_the_host(threads, host_builds, grid_artifact, pointwise_artifact, fault):
    program = host_builds.build_host(PROJECT, "random_inputs")
    for artifact in (grid_artifact, pointwise_artifact):
        assert run(program, artifact, 400, 5, threads).startswith("calls 400 ")
        fault.withstood(400)


@pytest.mark.fault(43, "eight threads in one model: bits of one thread")
def test_eight_threads_in_one_model(host_builds, grid_artifact, fault):
    printed = run(host_builds.build_host(PROJECT, "shared_closure"), grid_artifact, 8, 20)
    assert printed == "different 0 calls 180 of 180\n"
    fault.withstood(8)
