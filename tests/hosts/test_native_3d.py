"""The C ABI in three dimensions: the numbers of Python, blocks cut along any axes, and hosts that do not fit."""

import itertools

import numpy as np
import pytest
import torch

from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.export.script import write_artifact
from tests.hosts.artifacts import FLOW_3D, HOST_3D, MODEL_3D, random_artifacts, write_grid_3d
from tests.hosts.native import BAD_ARGUMENT, MISFIT, OK

HALO = 3
POINTS = (14, 12, 10)
SPACING = tuple(length / points for length, points in zip(FLOW_3D.domain, HOST_3D.grid, strict=True))


def field(points=POINTS, dtype=np.float32, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (1, 3, *points)).astype(dtype)


def damaged(velocity: np.ndarray) -> np.ndarray:
    velocity[0, :, 6:8, 5, 4], velocity[0, 2, 0, 0, 0] = 1e5, np.nan
    return velocity


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_box_gives_what_python_gives_counts_included(dtype, tmp_path, library):
    path = write_grid_3d(tmp_path / "model.pt", dtype)
    velocity = damaged(field(dtype=np.dtype(str(dtype).removeprefix("torch."))))
    output = np.empty_like(velocity)
    result = library.open(path, most_fallback=1.0).apply([velocity], output)
    expected, counts = load_artifact(path).guarded(torch.from_numpy(velocity))
    assert result.status == OK and result.counts == (1, np.prod(POINTS), *counts)
    assert counts.outside > 0 and counts.not_finite > 0
    # The host's library runs the code as it stands, Python's may fuse it.
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def test_fourier_transforms_are_those_of_python(tmp_path, library):
    path, golden = tmp_path / "model.pt", random_artifacts.random_velocity(HOST_3D)
    random_artifacts.write_random_artifact(path, {"kind": "damping", "knots": 6}, HOST_3D, FLOW_3D, golden)
    velocity = field()
    output, expected = np.empty_like(velocity), load_artifact(path)(torch.from_numpy(velocity))
    assert library.open(path).apply([velocity], output).status == OK
    # Round-off in float32 of the strongest modes.
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_component_last_in_memory_changes_no_bit(box_artifact, library):
    """As of a Fortran host: (nx, ny, nz, 3), the first axis fastest."""
    closure, velocity, plain = library.open(box_artifact), field(), np.empty((1, 3, *POINTS), np.float32)
    assert closure.apply([velocity], plain).status == OK
    given = np.moveaxis(np.asfortranarray(np.moveaxis(velocity, 1, -1)), -1, 1)
    output = np.moveaxis(np.zeros((1, *POINTS, 3), np.float32, order="F"), -1, 1)
    assert closure.apply([given], output).status == OK
    np.testing.assert_array_equal(output, plain)


@pytest.mark.parametrize("halo", [(HALO, HALO, HALO), (0, 0, HALO), (HALO + 1, 0, HALO)])
def test_subdomains_give_the_whole_box_and_count_no_cell_twice(halo, box_artifact, library):
    velocity = damaged(field(seed=1))
    whole, pieces = np.empty_like(velocity), np.empty_like(velocity)
    of_whole = library.open(box_artifact, most_fallback=1.0).apply([velocity], whole)
    closure = library.open(box_artifact, halo=halo, most_fallback=1.0)
    wrapped = np.pad(velocity, [(0, 0), (0, 0), *((width, width) for width in halo)], mode="wrap")
    sizes = [count // 2 if width else count for count, width in zip(POINTS, halo, strict=True)]
    counts = np.zeros(5, int)
    for corner in itertools.product(*(range(0, count, size) for count, size in zip(POINTS, sizes, strict=True))):
        given = tuple(slice(at, at + n + 2 * h) for at, n, h in zip(corner, sizes, halo, strict=True))
        inner = tuple(slice(at, at + n) for at, n in zip(corner, sizes, strict=True))
        result = closure.apply([wrapped[(..., *given)]], pieces[(..., *inner)])
        assert result.status == OK, result.error
        counts += result.counts
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-6 * np.abs(whole).max())
    assert tuple(counts)[1:] == of_whole.counts[1:] and of_whole.counts[2] > 0 and of_whole.counts[3] > 0


def test_what_does_not_fit_is_named(box_artifact, library):
    assert library.try_open(box_artifact, grid_spacing=SPACING, layout=b"staggered", halo=(0, 0, HALO))[0] == OK
    assert library.try_open(box_artifact, grid_spacing=(*SPACING[:2], 2 * SPACING[2]))[0] == MISFIT
    assert "grid spacing" in library.error()
    assert library.try_open(box_artifact, halo=(0, 0, HALO - 1))[0] == MISFIT
    assert "a halo of at least 3 cells" in library.error()
    closure = library.open(box_artifact)
    plane = np.zeros((1, 2, 12, 10), np.float32)
    result = closure.apply([plane], plane)
    assert result.status == BAD_ARGUMENT and "bcxyz" in result.error
    thin = field((12, 10, 2))
    result = closure.apply([thin], np.empty_like(thin))
    assert (
        result.status == BAD_ARGUMENT and "size of axis z is 2; the closure of a cell reaches 3 cells" in result.error
    )


def test_the_compiled_form_is_that_of_the_artifact(tmp_path, is_long):
    if not is_long:
        pytest.skip("takes a minute to compile; --long")
    from hpcsurrogate.export.compiled import compiled_bytes

    artifact = load_artifact(write_grid_3d(tmp_path / "model.pt"))
    (golden,) = artifact.golden_inputs
    eager = random_artifacts.random_closure(MODEL_3D, HOST_3D, FLOW_3D, golden)
    content = compiled_bytes(eager, artifact.metadata, [golden], artifact.golden_output)
    write_artifact(tmp_path / "model.pt2", content)
    compiled = load_artifact(tmp_path / "model.pt2", allow_compiled=True)
    for points, halo in ((POINTS, 0), ((9, 16, 11), HALO)):
        velocity = torch.from_numpy(damaged(field(points)))
        output, counts = compiled.guarded(velocity, halo=halo)
        expected, expected_counts = artifact.guarded(velocity, halo=halo)
        assert counts == expected_counts and counts.outside > 0
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
