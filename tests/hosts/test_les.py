"""Two solvers of ours, one in C++ and one in Fortran, under MPI: a run is the same on one rank, on four, and in Python.

Both take the scheme of physics/finite_volume.py at second order and a domain cut into slabs with halo exchange. The C++
one cuts along x and hands over slabs that are periodic along y (on one rank the whole field); the Fortran one cuts
along y and hands over blocks with the artifact's halo on all sides, its memory column-major.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import random_artifacts
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, RingForcing
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.physics.closures import Smagorinsky
from hpcsurrogate.physics.hosts import make_host
from tests.hosts import mpi_programs

HERE = Path(__file__).parent
FORCING = RingForcing(kind="ring", wavenumber=4, amplitude=1.0, seed=1)
FLOW = Flow(viscosity=2e-4, drag=0.1, forcing=FORCING)
CONFIG = FiniteVolumeHost(kind="finite_volume", grid=(64, 64), order=2, time_step=0.005)
NUM_STEPS = 20
CONSTANT = 0.17  # of Smagorinsky
# Largest difference of the velocity over its largest value. A float32 network rounds a velocity that differs in its
# last double bit either way.
ROUND_OFF = {"float64": 1e-13, "float32": 1e-6}
LANGUAGES = ("cpp", "fortran")
CLOSURES = ("none", "smagorinsky", "artifact", "artifact32", "leaving")


@dataclass(frozen=True)
class Run:
    """What a run leaves: the last velocity (2, nx, ny), the energy of every step, and the cells that fell back."""

    velocity: np.ndarray
    energies: np.ndarray
    counts: list[int]


@pytest.fixture(scope="module")
def host():
    return make_host(CONFIG, FLOW, torch.float64)


@pytest.fixture(scope="module")
def turbulence(host) -> torch.Tensor:
    """A developed flow: one time unit of forcing on noise, under Smagorinsky; (1, 2, nx, ny)."""
    generator = torch.Generator().manual_seed(0)
    velocity = host.project(torch.randn(1, 2, *CONFIG.grid, generator=generator, dtype=torch.float64))
    state, closure = host.encode(velocity), Smagorinsky(host.operators, host.grid.spacing[0], CONSTANT)
    for _ in range(200):
        state = host.step(state, closure)
    return host.decode(state)


@pytest.fixture(scope="module")
def artifacts(turbulence, tmp_path_factory) -> dict[str, Path]:
    """Networks of random weights: two in whose range all of the flow stays, one whose range the fastest cells leave."""
    folder = tmp_path_factory.mktemp("artifacts")
    # The range is twice that of the golden input.
    golden = {"artifact": turbulence, "artifact32": turbulence.float(), "leaving": 0.4 * turbulence}
    for name, velocity in golden.items():
        random_artifacts.write_random_artifact(
            folder / f"{name}.pt", {"kind": "quadratic_stencil"}, CONFIG, FLOW, velocity
        )
    return {name: folder / f"{name}.pt" for name in golden}


@pytest.fixture(scope="module")
def in_python(host, turbulence, artifacts) -> Callable[[str], Run]:
    """`in_python(closure)` -> the run by this package's own coarse solver, in float64."""
    runs = {}

    def run(name):
        if name not in runs:
            runs[name] = _run_in_python(host, turbulence, name, artifacts.get(name))
        return runs[name]

    return run


def _run_in_python(host, velocity, name, model) -> Run:
    counts = np.zeros(4, dtype=int)
    artifact = model and load_artifact(model)

    def learned(velocity):
        output, fallback = artifact.guarded(velocity.to(artifact.golden_output.dtype))
        counts[:] += (velocity[:, 0].numel(), *fallback)
        return output.double()

    closures = {"none": None, "smagorinsky": Smagorinsky(host.operators, host.grid.spacing[0], CONSTANT)}
    state, energies = host.encode(velocity), []
    for _ in range(NUM_STEPS):
        state = host.step(state, closures.get(name, learned))
        energies.append(float(host.decode(state).square().sum(1).mean() / 2))
    return Run(host.decode(state)[0].numpy(), np.array(energies), counts.tolist())


@pytest.fixture(scope="module")
def programs(build_host) -> dict[str, Path]:
    return {
        "cpp": build_host(HERE / "les_cpp", "les_cpp", *mpi_programs.cmake_options("CXX")),
        "fortran": build_host(HERE / "les_fortran", "les_fortran", *mpi_programs.cmake_options("C")),
    }


@pytest.fixture(scope="module")
def start(programs, host, turbulence, artifacts, tmp_path_factory) -> Callable:
    """`start(language, closure, ranks, **settings)` -> the CompletedProcess and the file of its last velocity."""
    force = host.tendency(torch.zeros_like(turbulence))

    def run(language, name, ranks, **settings):
        folder = tmp_path_factory.mktemp(language)
        for file, field in (("velocity", turbulence), ("force", force)):
            _in_memory_of(language, field[0].numpy()).tofile(folder / file)
        spacing = host.grid.spacing[0]
        settings = {
            "nx": 64, "ny": 64, "length_x": FLOW.domain[0], "length_y": FLOW.domain[1], "viscosity": FLOW.viscosity,
            "drag": FLOW.drag, "time_step": CONFIG.time_step, "num_steps": NUM_STEPS, "constant": CONSTANT,
            "closure": "artifact" if name in artifacts else name, "filter_width": spacing,
            "model": artifacts.get(name, "-"), "velocity": folder / "velocity", "force": folder / "force",
            "output": folder / "output",
        } | settings  # fmt: skip
        (folder / "settings.txt").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        return mpi_programs.run([programs[language], folder / "settings.txt"], ranks), folder / "output"

    return run


@pytest.fixture(scope="module")
def in_host(start) -> Callable[[str, str, int], Run]:
    """`in_host(language, closure, ranks)` -> the run by one of the two solvers."""
    runs = {}

    def run(language, name, ranks):
        if (language, name, ranks) not in runs:
            done, output = start(language, name, ranks)
            assert done.returncode == 0, done.stderr
            lines = [line.split() for line in done.stdout.splitlines()]
            energies = np.array([float(words[2]) for words in lines if words[0] == "energy"])
            (counts,) = ([int(word) for word in words[1:]] for words in lines if words[0] == "counts")
            velocity = np.fromfile(output).reshape(2, 64, 64)
            runs[language, name, ranks] = Run(_in_memory_of(language, velocity), energies, counts)
        return runs[language, name, ranks]

    return run


def _in_memory_of(language, field) -> np.ndarray:
    """(2, nx, ny) as the language lays it out, x fastest in Fortran; and back."""
    return np.ascontiguousarray(field.transpose(0, 2, 1)) if language == "fortran" else field


def _difference(velocity, expected) -> float:
    return np.abs(velocity - expected).max() / np.abs(expected).max()


def _round_off(name) -> float:
    return ROUND_OFF["float32" if name == "artifact32" else "float64"]


@pytest.mark.parametrize("name", CLOSURES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_ranks_equal_one(in_host, is_long, language, name):
    alone = in_host(language, name, 1)
    for ranks in (2, 4, 8) if is_long else (4,):
        together = in_host(language, name, ranks)
        assert len(together.energies) == NUM_STEPS
        if name in ("none", "smagorinsky"):
            assert np.array_equal(together.velocity, alone.velocity)
            assert np.array_equal(together.energies, alone.energies)
        assert _difference(together.velocity, alone.velocity) <= _round_off(name)
        assert np.allclose(together.energies, alone.energies, rtol=_round_off(name), atol=0)
        assert together.counts == alone.counts


@pytest.mark.parametrize("name", CLOSURES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_solver_equals_the_one_in_python(in_host, in_python, turbulence, language, name):
    run, expected = in_host(language, name, 4), in_python(name)
    assert _difference(expected.velocity, turbulence[0].numpy()) > 1e-2  # the flow has moved on
    assert _difference(run.velocity, expected.velocity) <= _round_off(name)
    assert np.allclose(run.energies, expected.energies, rtol=_round_off(name), atol=0)


@pytest.mark.parametrize("name", CLOSURES)
def test_cpp_equals_fortran(in_host, name):
    assert _difference(in_host("cpp", name, 4).velocity, in_host("fortran", name, 4).velocity) <= _round_off(name)


def test_the_closures_make_a_difference(in_python):
    """What the tests above compare is not the same flow under five names."""
    bare = in_python("none").velocity
    assert all(_difference(in_python(name).velocity, bare) > 1e-4 for name in CLOSURES[1:])
    assert _difference(in_python("artifact").velocity, in_python("leaving").velocity) > 1e-4


@pytest.mark.parametrize("ranks", [1, 4])
@pytest.mark.parametrize("language", LANGUAGES)
def test_cells_that_left_the_trained_range_count_once(in_host, in_python, language, ranks):
    expected = in_python("leaving").counts
    cells = 64 * 64 * 4 * NUM_STEPS
    assert expected[0] == cells and 0 < expected[1] < cells / 2 and expected[2:] == [0, 0]
    assert in_host(language, "leaving", ranks).counts == expected
    assert in_host(language, "artifact", ranks).counts == [cells, 0, 0, 0]


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_artifact_for_another_grid_ends_all_ranks_at_the_start(start, language):
    done, output = start(language, "artifact", 4, length_x=5.0)
    assert done.returncode == 2 and not output.exists() and "energy" not in done.stdout
    errors = {line for line in done.stderr.splitlines() if line.startswith("les: error:")}
    assert len(errors) == 1 and "spacing" in errors.pop()
