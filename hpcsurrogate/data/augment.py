"""Symmetries of the flow, drawn at random for each sample and applied to all its fields alike.

Legend
    n, d, c          samples, dimensions of space, components of a field
    h, o             spacing; offset of a component's points from the corner of the cell, in cells
    x'_b = s_b x_a   a rotation or reflection: the new axis b lies along the old axis a = axes[b], with sign s_b

A vector becomes u'_b(x') = s_b u_a(x), a tensor the same in both indices. Points at (i + o) h map onto points of the
same kind, since a component's offset turns with it: a reflection sends index i to -i - 2 o
(docs/architecture.md, "Conventions").
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hpcsurrogate.core.config import Augmentation
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.fields import AXES, FIELDS
from hpcsurrogate.data.order import random_words
from hpcsurrogate.physics.grid import stress_offset, velocity_offset

# Streams of random words; stream 0 of a seed shuffles the samples.
_ELEMENT, _TRANSLATION, _VELOCITY = 1, 10, 20


class Draw(NamedTuple):
    """What happens to each of n samples: first turned, then moved, then a uniform velocity added.

    Attributes
    ----------
    axes : ndarray, shape (n, d), int64          old axis along which each new axis lies
    signs : ndarray, shape (n, d), int64         1, or -1 where the new axis points the other way
    cells : ndarray, shape (n, d), int64         translation along the new axes [cells]
    velocity : ndarray, shape (n, d), float64    added to the field velocity [m/s]
    """

    axes: np.ndarray
    signs: np.ndarray
    cells: np.ndarray
    velocity: np.ndarray


class Augmenter:
    """Draws symmetries of a periodic box and applies them to velocities, vectors and tensors on its points.

    Parameters
    ----------
    settings : core.config.Augmentation
    fields : sequence of str          those it will be given
    grid_shape : tuple of int         nx, ny[, nz]
    domain : tuple of float           Lx, Ly[, Lz] [m]; axes are exchanged only where cells and box allow it
    layout : str                      "collocated" or "staggered"
    seed : int
    steady : mapping, field -> ndarray, shape (nx, ny[, nz], c)
        the part of a target that a steady body force makes: it stays where it is and does not turn with the flow

    Raises
    ------
    ConfigError    if Galilean shifts are asked for and a field is the commutator, or if a field is a scalar

    Notes
    -----
    Coarse-graining a transformed fine field gives the transformed coarse fields, to round-off
    (tests/unit/data/test_augment.py).
    """

    def __init__(
        self,
        settings: Augmentation,
        fields: Sequence[str],
        grid_shape: tuple[int, ...],
        domain: tuple[float, ...],
        layout: str,
        seed: int,
        steady: Mapping[str, np.ndarray] | None = None,
    ):
        require_invariant_target(settings, fields)
        for name in fields:
            if FIELDS[name].rank == 0:
                raise ConfigError(f"train.apriori.augmentation: {name} is a scalar, only vectors and tensors turn")
        self.settings, self.grid_shape, self.layout, self.seed = settings, grid_shape, layout, seed
        self._steady = dict(steady or {})
        self._elements = _point_group(settings, grid_shape, domain)

    def draw(self, positions: np.ndarray) -> Draw:
        """Draw a symmetry for each position of the order: a pure function of (seed, position).

        Parameters
        ----------
        positions : ndarray, shape (n,), int64
        """
        num_dims = len(self.grid_shape)
        axes, signs = self._elements[random_words(self.seed, _ELEMENT, positions) % len(self._elements)].swapaxes(0, 1)
        cells = np.zeros((len(positions), num_dims), np.int64)
        velocity = np.zeros((len(positions), num_dims))
        for axis, num_points in enumerate(self.grid_shape):
            if self.settings.translations:
                cells[:, axis] = random_words(self.seed, _TRANSLATION + axis, positions) % num_points
            if self.settings.galilean:
                velocity[:, axis] = self.settings.galilean * _normal(self.seed, _VELOCITY + 2 * axis, positions)
        return Draw(axes, signs, cells, velocity)

    def apply(self, draw: Draw, samples: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Transform samples; the arguments are left as they are.

        Parameters
        ----------
        draw : Draw                             of n samples
        samples : mapping, field -> ndarray, shape (n, nx, ny[, nz], c), contiguous, float [the field's unit]

        Returns
        -------
        dict    field -> ndarray of the same shape and dtype
        """
        sources: dict[int, np.ndarray] = {}  # vectors move alike, and so do tensors
        turned = {}
        for name, values in samples.items():
            rank = FIELDS[name].rank
            if rank not in sources:
                sources[rank] = self._source_index(draw, name)
            turned[name] = self._transformed(draw, name, values, sources[rank])
        return turned

    def _transformed(self, draw: Draw, name: str, values: np.ndarray, source: np.ndarray) -> np.ndarray:
        components = _component_axes(name, len(self.grid_shape))
        if name in self._steady:
            values = values - self._steady[name].astype(values.dtype)
        turned = np.take(values, source)
        over_the_grid = (len(values), *(1,) * len(self.grid_shape), -1)
        # A sign for each component: the product over its letters.
        turned *= draw.signs[:, components].prod(axis=-1).astype(values.dtype).reshape(over_the_grid)
        if name in self._steady:
            turned += self._steady[name].astype(values.dtype)
        if name == "velocity" and self.settings.galilean:
            turned += draw.velocity.astype(values.dtype).reshape(over_the_grid)
        return turned

    def _source_index(self, draw: Draw, name: str) -> np.ndarray:
        """Place in the flattened samples that every value of the transformed ones comes from: (n, *grid, c), int64."""
        num_samples, num_dims = draw.axes.shape
        components = _component_axes(name, num_dims)
        num_components = len(components)
        strides = num_components * np.cumprod((1, *self.grid_shape[:0:-1]))[::-1]
        sample_size = num_components * math.prod(self.grid_shape)
        index = np.arange(num_samples)[:, None] * sample_size + _source_component(draw.axes, components)
        index = index.reshape(num_samples, *(1,) * num_dims, num_components)
        offsets = _twice_offset(name, components, num_dims, self.layout)
        for axis, num_points in enumerate(self.grid_shape):
            sign = draw.signs[:, axis, None, None]
            moved = np.arange(num_points)[:, None] - draw.cells[:, axis, None, None]
            source = (sign * moved - offsets[:, axis] * (sign < 0)) % num_points  # (n, points, c)
            shape = [num_samples, *(1,) * num_dims, num_components]
            shape[1 + axis] = num_points
            index = index + (source * strides[draw.axes[:, axis]][:, None, None]).reshape(shape)
        return index


def require_invariant_target(settings: Augmentation, fields: Sequence[str]) -> None:
    """Raise ConfigError if Galilean shifts are asked for and a field does not stay the same under them.

    The commutator holds the discretisation error of advection, by a uniform flow too, so that it changes.
    """
    if settings.galilean and "commutator" in fields:
        raise ConfigError(
            "train.apriori.augmentation.galilean: the commutator changes with a uniform velocity, which the host"
            " advects with an error of its own; set it to 0 or train.apriori.target to sgs_force"
        )


def _point_group(settings: Augmentation, grid_shape: tuple[int, ...], domain: tuple[float, ...]) -> np.ndarray:
    """Axes and signs of every allowed rotation and reflection: shape (elements, 2, d), the identity among them."""
    identity = tuple(range(len(grid_shape)))
    elements = []
    for axes in itertools.permutations(identity):
        fits = all((grid_shape[a], domain[a]) == (grid_shape[b], domain[b]) for b, a in enumerate(axes))
        for signs in itertools.product((1, -1), repeat=len(axes)):
            matrix = np.eye(len(axes))[list(axes)] * signs
            proper = np.linalg.det(matrix) > 0
            is_identity = axes == identity and min(signs) > 0
            rotates, reflects = settings.rotations, settings.reflections
            allowed = (rotates and (reflects or proper)) or (reflects and axes == identity)
            if is_identity or (fits and allowed):
                elements.append((axes, signs))
    return np.array(elements, np.int64)


def _component_axes(name: str, num_dims: int) -> np.ndarray:
    """The axes that each component's name is made of: shape (c, rank)."""
    return np.array([[AXES.index(letter) for letter in text] for text in FIELDS[name].components_in(num_dims)])


def _source_component(axes: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Number of the old component that each new one comes from, shape (n, c)."""
    num_dims, rank = axes.shape[1], components.shape[1]
    number = np.zeros((num_dims,) * rank, np.int64)
    for index, letters in enumerate(components.tolist()):
        for order in itertools.permutations(letters):  # a tensor is symmetric: xy and yx are one component
            number[tuple(order)] = index
    return number[tuple(np.moveaxis(axes[:, components], -1, 0))]


def _twice_offset(name: str, components: np.ndarray, num_dims: int, layout: str) -> np.ndarray:
    """2 o of every component along every axis: shape (c, d), int64."""
    of = velocity_offset if FIELDS[name].rank == 1 else stress_offset
    return np.array([[2 * o for o in of(layout, *axes, num_dims)] for axes in components.tolist()], np.int64)


def _normal(seed: int, stream: int, positions: np.ndarray) -> np.ndarray:
    """Normal random numbers of variance 1 from two streams of words (Box and Muller)."""
    radius, angle = ((random_words(seed, stream + i, positions) >> np.uint64(11)) + 0.5 for i in (0, 1))
    return np.sqrt(-2 * np.log(radius * 2.0**-53)) * np.cos(2 * math.pi * 2.0**-53 * angle)
