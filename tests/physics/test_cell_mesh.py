"""Meshes of polyhedra against what is known by hand: affine images of boxes, discrete derivatives of waves."""

import numpy as np
import pytest

from tests.polyhedra import box_mesh

GRADED = (np.array([0.0, 0.5, 0.8, 1.0]), np.array([0.0, 0.1, 0.4, 0.5, 1.1]), np.array([0.0, 1.0, 1.7]))
AFFINE = np.array([[1.0, 0.3, -0.2], [0.1, 0.8, 0.4], [0.0, -0.3, 1.2]])
ROUND_OFF = 1e-13  # some hundred operations on numbers of order one


def sheared(points):
    return points @ AFFINE.T


def middles(edges):
    centres = np.meshgrid(*(0.5 * (e[1:] + e[:-1]) for e in edges), indexing="ij")
    sizes = np.meshgrid(*(np.diff(e) for e in edges), indexing="ij")
    return np.stack(centres, -1).reshape(-1, 3), np.prod(sizes, axis=0).ravel()


def on_patches(mesh, function):
    return {patch.name: function(mesh.face_centre[patch.faces]) for patch in mesh.patches}


def test_prisms_have_their_volumes_and_centres():
    centre, volume = middles(GRADED)
    mesh = box_mesh(GRADED, deform=sheared)
    assert mesh.volume == pytest.approx(volume * np.linalg.det(AFFINE), rel=ROUND_OFF)
    assert mesh.centre == pytest.approx(sheared(centre), abs=ROUND_OFF)
    assert mesh.width**3 == pytest.approx(mesh.volume, rel=ROUND_OFF)
    assert (mesh.lower < mesh.centre).all() and (mesh.upper > mesh.centre).all()


def test_surfaces_of_cells_are_closed_whatever_their_shape():
    """A constant then has no gradient: the area vectors of a cell sum to zero even if its faces are warped."""
    random = np.random.default_rng(0)
    mesh = box_mesh(GRADED, deform=lambda points: points + random.uniform(-0.02, 0.02, points.shape))
    gradient = mesh.gradient(
        np.ones((mesh.num_cells, 1)), {p.name: np.ones((p.faces.stop - p.faces.start, 1)) for p in mesh.patches}
    )
    assert np.abs(gradient).max() < 1e-12  # divided by volumes down to 0.01


def test_gradient_of_a_linear_velocity_is_exact():
    slope = np.array([[1.0, 2.0, -1.0], [0.5, -3.0, 2.0], [1.5, 0.2, 2.0]])
    mesh = box_mesh(GRADED, deform=sheared)
    gradient = mesh.gradient(mesh.centre @ slope.T, on_patches(mesh, lambda x: x @ slope.T))
    assert np.abs(gradient - slope).max() < 1e-12  # component i along axis j, so not the transpose


def test_periodic_gradient_of_a_wave_is_the_central_difference():
    """Of sin(kx) on uniform cells it is k cos(kx) times sin(kh) / (kh)."""
    n, k = 12, 2 * np.pi
    edges = (np.linspace(0, 1, n + 1), np.linspace(0, 2, 4), np.linspace(0, 1, 3))
    mesh = box_mesh(edges, periodic=(0, 1, 2))
    x = mesh.centre[:, 0]
    gradient = mesh.gradient(np.sin(k * x)[:, None], {})[:, 0]
    assert gradient[:, 0] == pytest.approx(k * np.cos(k * x) * np.sin(k / n) / (k / n), abs=ROUND_OFF * k * n)
    assert np.abs(gradient[:, 1:]).max() < 1e-12


def test_periodic_gradient_has_no_mean():
    """What leaves a cell enters its neighbour, through periodic faces between cells of different sizes too."""
    mesh = box_mesh(GRADED, periodic=(0, 1, 2))
    values = np.random.default_rng(1).standard_normal((mesh.num_cells, 2))
    gradient = mesh.gradient(values, {})
    assert np.abs(np.einsum("n,nij->ij", mesh.volume, gradient)).max() < ROUND_OFF
    assert np.abs(gradient).max() > 0.1


def test_shape_of_a_box_is_its_sides_and_that_of_its_image_follows():
    sides = np.meshgrid(*(np.diff(e) for e in GRADED), indexing="ij")
    sides = np.stack(sides, -1).reshape(-1, 3)
    expected = sides[:, :, None] * np.eye(3)
    assert box_mesh(GRADED).shape == pytest.approx(expected, abs=ROUND_OFF)
    moment = AFFINE @ (expected**2 / 12) @ AFFINE.T
    sheared_mesh = box_mesh(GRADED, deform=sheared)
    assert sheared_mesh.moment == pytest.approx(moment, abs=ROUND_OFF)
    assert 12 * sheared_mesh.moment == pytest.approx(sheared_mesh.shape @ sheared_mesh.shape, abs=ROUND_OFF)
