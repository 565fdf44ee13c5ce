"""Symmetries of samples: against functions of space that are turned themselves, and against coarse-graining."""

import math

import numpy as np
import pytest
import torch

from hpcsurrogate.core.config import (
    Augmentation,
    Filter,
    FiniteVolumeHost,
    Flow,
    KolmogorovForcing,
    NoForcing,
    SpectralHost,
)
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.fields import AXES, FIELDS
from hpcsurrogate.data.augment import Augmenter
from hpcsurrogate.physics.coarse_graining import CoarseGraining
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import make_host
from hpcsurrogate.physics.spectral import SpectralSolver

ALL = Augmentation(rotations=True, reflections=True, translations=True)
BOX = 2 * math.pi
SQUARE, CUBE = ((16, 16), (BOX, BOX)), ((6, 6, 6), (BOX, BOX, BOX))
RECTANGLE, SLAB = ((12, 8), (BOX, 1.5 * BOX)), ((6, 6, 4), (BOX, BOX, BOX))


def augmenter_of(box, layout="staggered", fields=("velocity", "sgs_stress"), settings=ALL, seed=1, **steady):
    return Augmenter(settings, fields, *box, layout, seed, **steady)


def offset(component, axis, layout):
    """docs/architecture.md, Conventions: vectors on faces, shear at corners, the diagonal of a tensor at centres."""
    if layout == "collocated":
        return 0.0
    return {0: 0.5, 1: 1.0, 2: 0.5}[component.count(AXES[axis])]


def points_of(component, box, layout):
    shape, lengths = box
    axes = [(np.arange(n) + offset(component, i, layout)) * lengths[i] / n for i, n in enumerate(shape)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def waves(num_dims, lengths, rank):
    """A smooth periodic field as a function of points (d, ...) -> (d,) * rank + (...); symmetric if a tensor."""
    generator = np.random.default_rng(rank)
    numbers = generator.integers(-2, 3, (4, num_dims))
    amplitudes = generator.standard_normal((4, *(num_dims,) * rank))
    if rank == 2:
        amplitudes = amplitudes + amplitudes.swapaxes(1, 2)
    phases = generator.uniform(0, 2 * math.pi, 4)

    def field(points):
        phase = np.tensordot(numbers * 2 * math.pi / np.array(lengths), points, 1)
        phase += phases.reshape(-1, *(1,) * num_dims)
        return np.tensordot(amplitudes, np.cos(phase), ([0], [0]))

    return field


def sampled(name, field, box, layout):
    """The field at the points of each of its components: (1, *grid, c)."""
    components = FIELDS[name].components_in(len(box[0]))
    rows = [field(points_of(text, box, layout))[tuple(AXES.index(letter) for letter in text)] for text in components]
    return np.stack(rows, axis=-1)[None]


@pytest.mark.parametrize("layout", ["collocated", "staggered"])
@pytest.mark.parametrize("box", [SQUARE, RECTANGLE, CUBE, SLAB], ids=["square", "rectangle", "cube", "slab"])
def test_samples_turn_like_the_functions_they_are_samples_of(box, layout):
    augmenter, num_dims = augmenter_of(box, layout), len(box[0])
    spacing = np.array(box[1]) / box[0]
    for position in range(40):
        draw = augmenter.draw(np.array([position]))
        matrix = np.zeros((num_dims, num_dims))
        matrix[np.arange(num_dims), draw.axes[0]] = draw.signs[0]
        assert abs(np.linalg.det(matrix)) == 1
        for name in ("velocity", "sgs_stress"):
            rank = FIELDS[name].rank
            field = waves(num_dims, box[1], rank)

            def turned(points, field=field, rank=rank, matrix=matrix, moved=draw.cells[0] * spacing):
                old_points = np.tensordot(matrix.T, points - moved.reshape(-1, *(1,) * (points.ndim - 1)), 1)
                values = field(old_points)
                for index in range(rank):
                    values = np.moveaxis(np.tensordot(matrix, values, ([1], [index])), 0, index)
                return values

            result = augmenter.apply(draw, {name: sampled(name, field, box, layout)})[name]
            # Round-off of cosines of phases up to about 50.
            np.testing.assert_allclose(result, sampled(name, turned, box, layout), rtol=0, atol=1e-12)


# --- coarse-graining -------------------------------------------------------------------------------------------------

FINE, COARSE = 48, 16  # a coarse cell is three fine ones


def graining_of(layout, kind, forcing, lengths=(BOX, BOX)):
    flow = Flow(domain=lengths, viscosity=0.01, drag=0.1, forcing=forcing)
    if layout == "staggered":
        config = FiniteVolumeHost(kind="finite_volume", grid=(COARSE, COARSE), time_step=0.01)
    else:
        config = SpectralHost(kind="spectral", dealias="shift", grid=(COARSE, COARSE), time_step=0.01)
    host = make_host(config, flow, torch.float64)
    return CoarseGraining(flow, Grid((FINE, FINE), lengths), host, Filter(kind=kind))


def a_velocity(grid):
    """A solenoidal collocated velocity with every mode of the 2/3 rule in it: (2, nx, ny)."""
    solver = SpectralSolver(grid, Flow(domain=grid.lengths, viscosity=0.0))
    return solver.velocity(solver.random_vorticity_hat(3, 1.0, torch.Generator().manual_seed(0)))


def turned_by_hand(values_cxy, axes, signs, cells):
    """A collocated vector turned with transposes, flips and rolls alone; reflections leave index 0 where it is."""
    values = values_cxy[axes.tolist()] * torch.tensor(signs).reshape(-1, 1, 1)
    if axes[0] == 1:
        values = values.transpose(1, 2)
    for axis in (1, 2):
        if signs[axis - 1] < 0:
            values = values.flip(axis).roll(1, axis)
    return values.roll(cells.tolist(), (1, 2))


def assert_coarse_fields_turn_with_the_fine_one(graining, augmenter, velocity, names):
    draw = augmenter.draw(np.arange(24))
    fine = torch.stack([
        turned_by_hand(velocity, axes, signs, cells * (FINE // COARSE)) + torch.tensor(shift).reshape(2, 1, 1)
        for axes, signs, cells, shift in zip(*draw, strict=True)
    ])  # fmt: skip
    exact, coarse = graining.fields(fine), graining.fields(velocity[None])
    # The projection of a collocated host takes a mean flow away. None is needed: filtering leaves no divergence.
    exact["velocity"] = graining.filter.vector(fine) if draw.velocity.any() else exact["velocity"]
    samples = {name: np.repeat(coarse[name].movedim(1, -1).numpy(), 24, axis=0) for name in names}
    result = augmenter.apply(draw, samples)
    for name in names:
        expected = exact[name].movedim(1, -1).numpy()
        scale = np.abs(expected).max()
        assert scale > 1e-3
        # Differences of numbers of order one that are differentiated once or twice on 48 points: 1e-16 * 24^2.
        np.testing.assert_allclose(result[name], expected, rtol=0, atol=1e-12 * max(1, scale), err_msg=name)


@pytest.mark.parametrize(
    "layout, kind",
    [("staggered", "face_average"), ("staggered", "gaussian"), ("collocated", "sharp"), ("collocated", "box")],
)
@pytest.mark.parametrize("lengths", [(BOX, BOX), (BOX, 1.5 * BOX)], ids=["square", "rectangle"])
def test_coarse_graining_a_turned_flow_turns_its_results(layout, kind, lengths):
    names = ("velocity", "commutator", "sgs_force", "sgs_stress")
    graining = graining_of(layout, kind, NoForcing(), lengths)
    augmenter = augmenter_of(((COARSE, COARSE), lengths), layout, names)
    velocity = a_velocity(graining.fine_grid)
    assert_coarse_fields_turn_with_the_fine_one(graining, augmenter, velocity, names)


@pytest.mark.parametrize("layout", ["staggered", "collocated"])
def test_the_part_of_the_commutator_that_a_steady_force_makes_does_not_turn(layout):
    graining = graining_of(layout, "gaussian", KolmogorovForcing(kind="kolmogorov", wavenumber=4))
    velocity = a_velocity(graining.fine_grid)
    steady = graining.commutator(torch.zeros_like(velocity)[None])[0].movedim(0, -1).numpy()
    assert np.abs(steady).max() > 1e-3
    names = ("velocity", "commutator")
    augmenter = augmenter_of(((COARSE, COARSE), (BOX, BOX)), layout, names, steady={"commutator": steady})
    assert_coarse_fields_turn_with_the_fine_one(graining, augmenter, velocity, names)


@pytest.mark.parametrize("layout, kind", [("staggered", "face_average"), ("collocated", "gaussian")])
def test_a_galilean_shift_changes_the_velocity_alone(layout, kind):
    names = ("velocity", "sgs_force", "sgs_stress")
    settings = ALL.model_copy(update={"galilean": 0.7})
    graining = graining_of(layout, kind, NoForcing())
    augmenter = augmenter_of(((COARSE, COARSE), (BOX, BOX)), layout, names, settings)
    velocity = a_velocity(graining.fine_grid)
    assert_coarse_fields_turn_with_the_fine_one(graining, augmenter, velocity, names)


# --- the draw --------------------------------------------------------------------------------------------------------


def test_a_draw_depends_on_seed_and_position_alone_and_every_element_comes():
    settings = ALL.model_copy(update={"galilean": 0.3})
    augmenter = augmenter_of(CUBE, settings=settings, seed=5)
    draw = augmenter.draw(np.arange(20_000))
    for one, other in zip(draw, augmenter_of(CUBE, settings=settings, seed=5).draw(np.arange(7000, 7100)), strict=True):
        assert np.array_equal(one[7000:7100], other)
    assert not np.array_equal(draw.cells[:100], augmenter_of(CUBE, seed=6).draw(np.arange(100)).cells)
    elements, counts = np.unique(np.hstack((draw.axes, draw.signs)), axis=0, return_counts=True)
    # 48 elements, 417 times each on average, with a standard deviation of 20.
    assert len(elements) == 48 and np.abs(counts - 20_000 / 48).max() < 110
    assert np.abs(np.bincount(draw.cells[:, 1], minlength=6) - 20_000 / 6).max() < 270  # five deviations of 53
    # 60,000 normal numbers: the root mean square is known to 0.3 %, the fourth moment to 1.6 %.
    assert np.sqrt(np.mean(draw.velocity**2)) == pytest.approx(0.3, rel=0.015)
    assert np.mean(draw.velocity**4) == pytest.approx(3 * 0.3**4, rel=0.08)
    assert abs(np.corrcoef(draw.velocity[:, 0], draw.velocity[:, 1])[0, 1]) < 0.04


@pytest.mark.parametrize(
    "box, settings, expected",
    [
        (SQUARE, Augmentation(translations=True), 1),
        (SQUARE, Augmentation(rotations=True), 4),
        (SQUARE, Augmentation(reflections=True), 4),
        (SQUARE, ALL, 8),
        (RECTANGLE, Augmentation(rotations=True), 2),
        (RECTANGLE, ALL, 4),
        (CUBE, Augmentation(rotations=True), 24),
        (SLAB, ALL, 16),
    ],
)
def test_the_group_is_the_one_asked_for_and_the_box_allows(box, settings, expected):
    draw = augmenter_of(box, settings=settings).draw(np.arange(2000))
    elements = np.unique(np.hstack((draw.axes, draw.signs)), axis=0)
    assert len(elements) == expected
    if not settings.reflections:
        num_dims = len(box[0])
        matrices = np.eye(num_dims)[elements[:, :num_dims]] * elements[:, num_dims:, None]
        assert np.linalg.det(matrices) == pytest.approx(np.ones(expected))
    if not settings.translations:
        assert not draw.cells.any()


def test_the_arguments_stay_as_they_are_and_single_precision_stays_single():
    augmenter = augmenter_of(SQUARE, settings=ALL.model_copy(update={"galilean": 1.0}))
    generator = np.random.default_rng(0)
    samples = {
        name: generator.standard_normal((5, 16, 16, c), dtype=np.float32)
        for name, c in (("velocity", 2), ("sgs_stress", 3))
    }
    before = {name: values.copy() for name, values in samples.items()}
    result = augmenter.apply(augmenter.draw(np.arange(5)), samples)
    assert all(np.array_equal(samples[name], before[name]) for name in samples)
    assert all(values.dtype == np.float32 and values.flags.c_contiguous for values in result.values())


def test_what_is_no_symmetry_is_refused():
    with pytest.raises(ConfigError, match=r"train.apriori.augmentation.galilean: the commutator changes"):
        augmenter_of(SQUARE, fields=("velocity", "commutator"), settings=Augmentation(galilean=0.1))
    with pytest.raises(ConfigError, match="vorticity is a scalar"):
        augmenter_of(SQUARE, fields=("vorticity",))
