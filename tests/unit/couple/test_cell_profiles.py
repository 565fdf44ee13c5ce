"""Profiles of runs on a mesh: exact where the flow is known, and as sure as they say."""

import numpy as np
import pytest

from hpcsurrogate.couple.cell_profiles import NUM_BLOCKS, Moments, Places, Scores, wall_shear_stress
from tests.polyhedra import box_mesh

EDGES = (np.linspace(0, 2, 5), np.array([0.0, 0.1, 0.3, 0.6, 1.0]), np.linspace(0, 1, 4))


@pytest.fixture(scope="module")
def mesh():
    return box_mesh(EDGES, periodic=(0, 2))


def test_places_are_the_cells_at_one_height(mesh):
    places = Places.of(mesh, "xz")
    assert places.centre[:, 0] == pytest.approx([0.05, 0.2, 0.45, 0.8])
    assert places.of_places == pytest.approx(2 * np.diff(EDGES[1]))
    assert places.mean(mesh.centre[:, 1:2])[:, 0] == pytest.approx(places.centre[:, 0])
    assert len(Places.of(mesh, "").centre) == mesh.num_cells


def test_stresses_are_the_covariances_of_what_varies_in_place_and_time(mesh):
    random = np.random.default_rng(0)
    places, fields = Places.of(mesh, "xz"), random.normal(size=(3 * NUM_BLOCKS, mesh.num_cells, 3))
    run = Moments.joined([Moments.of(places, field, np.zeros(3)) for field in fields])
    profile = run.profile()
    for place in range(len(places.centre)):
        samples = fields[:, places.group == place].reshape(-1, 3)  # cells of one height are alike in size
        assert profile.velocity[place] == pytest.approx(samples.mean(0), abs=1e-14)
        covariance = np.cov(samples.T, bias=True)[np.triu_indices(3)]
        assert profile.stress[place] == pytest.approx(covariance, abs=1e-13)
    of_blocks = run.profile(np.full((2, NUM_BLOCKS), 1 / NUM_BLOCKS))
    assert of_blocks.stress[1] == pytest.approx(profile.stress, abs=1e-13)


def still(mesh, speeds):
    """Uniform velocities along x at so many times."""
    places = Places.of(mesh, "xz")
    fields = [np.tile([speed, 0.0, 0.0], (mesh.num_cells, 1)) for speed in speeds]
    return Moments.joined(
        [Moments.of(places, field, np.array([speed, 0, 0])) for field, speed in zip(fields, speeds, strict=True)]
    )


def test_errors_are_relative_and_their_intervals_hold_what_is_true(mesh):
    random = np.random.default_rng(2)
    volume = Places.of(mesh, "xz").of_places
    reference = still(mesh, random.normal(1.0, 0.05, 800))
    runs = {"near": still(mesh, random.normal(1.02, 0.05, 800)), "far": still(mesh, random.normal(1.10, 0.05, 800))}
    scores = Scores.of(runs, reference, volume)
    assert scores.errors["far"]["velocity"] == pytest.approx(0.10, abs=0.01)
    assert scores.errors["far"]["wall_stress"] == pytest.approx(0.10, abs=0.01)
    low, high = scores.interval("far", "velocity")
    assert low < 0.10 < high and high - low < 0.03
    low, high = scores.difference("near", "far", "velocity")
    assert low < -0.08 < high < 0
    # The mean of 800 independent values scatters by 0.05 / sqrt(800), and so do means of blocks of them.
    assert scores.noise["velocity"] == pytest.approx(0.05 / np.sqrt(800), rel=0.6)


def test_wall_shear_stress_of_a_linear_shear(mesh):
    """u = a y between walls at rest and moving with it: the same stress on both, against each other."""
    slope, viscosity = 3.0, 0.1
    velocity = np.stack([slope * mesh.centre[:, 1], np.zeros(mesh.num_cells), np.zeros(mesh.num_cells)], 1)
    walls = {p.name: slope * mesh.face_centre[p.faces, 1:2] * [1.0, 0, 0] for p in mesh.patches if p.kind == "wall"}
    assert wall_shear_stress(mesh, viscosity, velocity, walls) == pytest.approx(np.zeros(3), abs=1e-13)
    parabola = velocity * (1 - mesh.centre[:, 1:2])
    near = slope * np.array([0.05 * 0.95 / 0.05, 0.8 * 0.2 / 0.2])  # of the first cell and of the last
    at_rest = {name: np.zeros_like(value) for name, value in walls.items()}
    expected = viscosity * near.mean()
    assert wall_shear_stress(mesh, viscosity, parabola, at_rest) == pytest.approx([expected, 0, 0], rel=1e-12)
