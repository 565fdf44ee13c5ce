"""Measured residuals of the exact properties of a closure: how far the file is from what physics demands.

Legend: d = 2 or 3 dimensions, axes 0 (x), 1 (y)[, 2 (z)]; h spacing. A symmetry S of the flow maps a velocity field to
another; an equivariant closure f has f(S u) = S f(u).
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hpcsurrogate.core.errors import ModelRefusedError

Closure = Callable[[Tensor], Tensor]

AXES = "xyz"
# Direction of the constant velocity, of length one, along no axis and no diagonal.
WIND = {2: (0.8, -0.6), 3: (0.64, -0.6, 0.48)}


def reflect(field: Tensor, axis: int, layout: str) -> Tensor:
    """Mirror a periodic vector field at the plane through the origin across an axis.

    Parameters
    ----------
    field : Tensor, shape (b, d, nx, ny[, nz]) [any]    velocity or acceleration
    axis : int      0, 1 or 2
    layout : str    "staggered" (component i on faces at (i+1) h along its own axis, at (i+1/2) h along the others) or
                    "collocated" (all at i h)

    Returns
    -------
    Tensor, shape (b, d, nx, ny[, nz])

    Notes
    -----
    A point at (i+1) h goes to -(i+1) h, which has index -i-2; one at (i+1/2) h goes to index -i-1; one at i h to -i.
    Applied twice it is the identity (tests/unit/export/test_certificate.py).
    """
    shift_across, shift_along = (-1, 0) if layout == "staggered" else (1, 1)
    mirrored = torch.flip(field, dims=(axis + 2,))
    components = [
        -part.roll(shift_across, axis + 1) if number == axis else part.roll(shift_along, axis + 1)
        for number, part in enumerate(mirrored.unbind(1))
    ]
    return torch.stack(components, 1)


def transpose(field: Tensor, first: int = 0, second: int = 1) -> Tensor:
    """Exchange two axes (mirror at their diagonal); the same in both layouts, if sizes and spacings are equal."""
    order = list(range(field.shape[1]))
    order[first], order[second] = second, first
    return field[:, order].transpose(first + 2, second + 2)


def measure_residuals(closure: Closure, velocity: Tensor, layout: str, spacing: Sequence[float]) -> dict[str, float]:
    """Measure how well a closure keeps the exact properties, each as a root mean square over that of the output.

    Parameters
    ----------
    closure : callable    velocity (b, d, nx, ny[, nz]) [m/s] to acceleration of the same shape [m/s^2]
    velocity : Tensor, shape (b, d, nx, ny[, nz]) [m/s]    a real flow field
    layout : str          "staggered" or "collocated"
    spacing : sequence    dx, dy[, dz] [m]

    Returns
    -------
    dict    `galilean_invariance` (a constant velocity added), `reflection_x`, `reflection_y`[, `reflection_z`],
            `momentum` (mean of the output), `uniform_flow` (output for a constant velocity); for two axes of equal size
            and spacing also `transposition` and `rotation_90`, in three dimensions with the axes exchanged and the axis
            turned about: `transposition_xy`, `rotation_90_z`. 0 is exact; float32 gives 1e-7 to 1e-5 [-]

    Raises
    ------
    ModelRefusedError    if the closure returns zero or non-finite values for `velocity`

    Notes
    -----
    Reflections and transpositions make up all 8 symmetries of the square, all 48 of the cube.
    """
    num_dims = velocity.shape[1]
    with torch.no_grad():
        output = closure(velocity)
        scale = _rms(output)
        if not (torch.isfinite(output).all() and scale > 0):
            raise ModelRefusedError(
                "the closure returns zeros or non-finite values for a real flow field; train it again"
            )
        direction = velocity.new_tensor(WIND[num_dims]).reshape(1, -1, *[1] * num_dims)
        wind = direction * velocity.square().sum(1).mean().sqrt()
        residuals = {
            "galilean_invariance": _rms(closure(velocity + wind) - output) / scale,
            "momentum": _rms(output.flatten(2).mean(2)) / scale,
            "uniform_flow": _rms(closure(wind.expand_as(velocity).contiguous())) / scale,
        }
        for name, symmetry in _symmetries(layout, velocity.shape[2:], spacing).items():
            mapped = closure(symmetry(velocity).contiguous())
            residuals[name] = _rms(mapped - symmetry(output)) / scale
    return residuals


def _symmetries(layout: str, sizes: Sequence[int], spacing: Sequence[float]) -> dict[str, Callable[[Tensor], Tensor]]:
    num_dims = len(sizes)
    symmetries: dict[str, Callable[[Tensor], Tensor]] = {}
    for axis in range(num_dims):
        symmetries[f"reflection_{AXES[axis]}"] = lambda field, axis=axis: reflect(field, axis, layout)
    for first, second in itertools.combinations(range(num_dims), 2):
        if sizes[first] != sizes[second] or abs(spacing[first] - spacing[second]) >= 1e-6 * spacing[first]:
            continue
        pair, about = ("", "") if num_dims == 2 else (f"_{AXES[first]}{AXES[second]}", f"_{AXES[3 - first - second]}")
        symmetries[f"transposition{pair}"] = lambda field, axes=(first, second): transpose(field, *axes)
        symmetries[f"rotation_90{about}"] = lambda field, axes=(first, second): reflect(
            transpose(field, *axes), axes[0], layout
        )
    return symmetries


def _rms(field: Tensor) -> float:
    return float(field.double().square().mean().sqrt())
