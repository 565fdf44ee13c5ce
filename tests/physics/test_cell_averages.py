"""Averages from fine cells onto coarse ones: conservation, invariance, and stresses that are known exactly."""

import numpy as np
import pytest

from hpcsurrogate.physics.cell_averages import CellAverages, find_cells
from tests.polyhedra import box_mesh

COARSE = (np.array([0.0, 0.5, 0.8, 1.0]), np.array([0.0, 0.1, 0.4, 1.1]), np.array([0.0, 1.0, 1.7]))
RATIO = np.array([2, 3, 4])
AFFINE = np.array([[1.0, 0.3, -0.2], [0.1, 0.8, 0.4], [0.0, -0.3, 1.2]])
ROUND_OFF = 1e-13  # some hundred operations on numbers of order one


def refined(edges):
    """Every interval cut into RATIO equal ones."""
    return tuple(
        np.append(np.concatenate([np.linspace(a, b, r, endpoint=False) for a, b in zip(e, e[1:], strict=False)]), e[-1])
        for e, r in zip(edges, RATIO, strict=True)
    )


def sheared(points):
    return points @ AFFINE.T


@pytest.fixture(scope="module", params=[None, sheared], ids=["box", "sheared"])
def meshes(request):
    return box_mesh(refined(COARSE), deform=request.param), box_mesh(COARSE, deform=request.param)


def test_every_fine_cell_is_found_where_it_was_cut(meshes):
    fine, coarse = meshes
    shape = [len(e) - 1 for e in COARSE]
    index = np.indices(shape * RATIO).reshape(3, -1) // RATIO[:, None]
    averages = CellAverages.between(fine, coarse)
    assert np.array_equal(averages.container, np.ravel_multi_index(index, shape))
    assert averages.covered == pytest.approx(coarse.volume, rel=ROUND_OFF)


def test_integrals_are_kept(meshes):
    fine, coarse = meshes
    values = np.random.default_rng(0).standard_normal(fine.num_cells)
    averages = CellAverages.between(fine, coarse)
    assert coarse.volume @ averages.mean(values) == pytest.approx(fine.volume @ values, abs=ROUND_OFF)
    assert averages.mean(np.full(fine.num_cells, 2.5)) == pytest.approx(2.5, rel=ROUND_OFF)


def test_stress_of_a_linear_velocity_is_exact():
    """Centres of r equal parts of a length h scatter by (h^2 - (h/r)^2) / 12 around the middle."""
    slope = np.array([[1.0, 2.0, -1.0], [0.5, -3.0, 2.0], [1.5, 0.2, 2.0]])
    fine, coarse = box_mesh(refined(COARSE)), box_mesh(COARSE)
    mean, stress = CellAverages.between(fine, coarse).velocity_and_stress(fine.centre @ slope.T)
    scatter = (coarse.upper - coarse.lower) ** 2 * (1 - 1 / RATIO**2) / 12
    exact = np.einsum("ik,nk,jk->nij", slope, scatter, slope)
    rows, columns = np.triu_indices(3)
    assert stress == pytest.approx(exact[:, rows, columns], abs=ROUND_OFF)
    assert mean == pytest.approx(coarse.centre @ slope.T, abs=ROUND_OFF * 10)


def test_stress_is_the_same_in_a_moving_frame_and_realisable(meshes):
    velocity = np.random.default_rng(2).standard_normal((meshes[0].num_cells, 3))
    averages = CellAverages.between(*meshes)
    _, stress = averages.velocity_and_stress(velocity)
    _, moving = averages.velocity_and_stress(velocity + np.array([1e3, -2e3, 5e2]))
    assert moving == pytest.approx(stress, abs=1e-10)  # rounding of 2e3 is 2e-13, times some tens of cells
    full = np.empty((len(stress), 3, 3))
    rows, columns = np.triu_indices(3)
    full[:, rows, columns] = full[:, columns, rows] = stress
    assert np.linalg.eigvalsh(full).min() > -ROUND_OFF


def test_points_are_found_in_skew_cells_and_not_outside():
    random = np.random.default_rng(3)
    inside = random.uniform(0, 1, (2000, 3)) * [e[-1] for e in COARSE]
    place = [np.searchsorted(e, x) - 1 for e, x in zip(COARSE, inside.T, strict=True)]
    mesh = box_mesh(COARSE, deform=sheared)
    assert np.array_equal(find_cells(mesh, sheared(inside)), np.ravel_multi_index(place, [len(e) - 1 for e in COARSE]))
    outside = inside + np.array([1.0, 0.0, 0.0])
    outside = outside[outside[:, 0] > 1.001]
    assert len(outside) > 100 and (find_cells(mesh, sheared(outside)) == -1).all()


def test_meshes_that_do_not_fill_the_same_space_are_refused():
    fine, coarse = box_mesh(refined(COARSE)), box_mesh(COARSE)
    with pytest.raises(ValueError, match=r"coarse cell \d+ at .* holds no fine cell"):
        CellAverages.between(coarse, fine)
    shifted = box_mesh((COARSE[0] + 0.7, *COARSE[1:]))
    with pytest.raises(ValueError, match=r"fine cell 0 at .* lies in no coarse cell"):
        CellAverages.between(fine, shifted)
