"""Measured residuals of the exact properties of a closure: how far the file is from what physics demands.

Legend: u, v velocity components, i, j grid indices along x, y, n cells along an axis, h spacing.
A symmetry S of the flow maps a velocity field to another; an equivariant closure f has f(S u) = S f(u).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hpcsurrogate.core.errors import ModelRefusedError

Closure = Callable[[Tensor], Tensor]


def reflect_x(field_bcxy: Tensor, layout: str) -> Tensor:
    """Mirror a periodic vector field at x = 0.

    Parameters
    ----------
    field_bcxy : Tensor, shape (b, 2, nx, ny) [any]    velocity or acceleration
    layout : str    "staggered" (u on faces at (i+1) h, v at (i+1/2) h) or "collocated" (both at i h)

    Returns
    -------
    Tensor, shape (b, 2, nx, ny)

    Notes
    -----
    A point at (i+1) h goes to -(i+1) h, which has index -i-2; one at (i+1/2) h goes to index -i-1; one at i h to -i.
    Applied twice it is the identity (tests/unit/export/test_certificate.py).
    """
    shift_u, shift_v = (-1, 0) if layout == "staggered" else (1, 1)
    mirrored = torch.flip(field_bcxy, dims=(-2,))
    u = -torch.roll(mirrored[:, 0], shift_u, dims=-2)
    v = torch.roll(mirrored[:, 1], shift_v, dims=-2)
    return torch.stack((u, v), dim=1)


def transpose(field_bcxy: Tensor) -> Tensor:
    """Exchange x and y (mirror at the diagonal); the same in both layouts, for square grids of equal spacing."""
    return torch.flip(field_bcxy, dims=(1,)).transpose(-2, -1)


def measure_residuals(
    closure: Closure, velocity_bcxy: Tensor, layout: str, spacing: tuple[float, float]
) -> dict[str, float]:
    """Measure how well a closure keeps the exact properties, each as a root mean square over that of the output.

    Parameters
    ----------
    closure : callable    velocity (b, 2, nx, ny) [m/s] to acceleration (b, 2, nx, ny) [m/s^2]
    velocity_bcxy : Tensor, shape (b, 2, nx, ny) [m/s]    a real flow field
    layout : str          "staggered" or "collocated"
    spacing : tuple       dx, dy [m]

    Returns
    -------
    dict    `galilean_invariance` (a constant velocity added), `reflection_x`, `reflection_y`, `momentum` (mean of the
            output), `uniform_flow` (output for a constant velocity); for a square grid of equal spacing also
            `transposition` and `rotation_90`. 0 is exact; float32 gives 1e-7 to 1e-5 [-]

    Raises
    ------
    ModelRefusedError    if the closure returns zero or non-finite values for `velocity_bcxy`
    """
    with torch.no_grad():
        output = closure(velocity_bcxy)
        scale = _rms(output)
        if not (torch.isfinite(output).all() and scale > 0):
            raise ModelRefusedError(
                "the closure returns zeros or non-finite values for a real flow field; train it again"
            )
        wind = velocity_bcxy.new_tensor([0.8, -0.6]).reshape(1, 2, 1, 1) * velocity_bcxy.square().sum(1).mean().sqrt()
        residuals = {
            "galilean_invariance": _rms(closure(velocity_bcxy + wind) - output) / scale,
            "momentum": _rms(output.mean(dim=(-2, -1))) / scale,
            "uniform_flow": _rms(closure(wind.expand_as(velocity_bcxy).contiguous())) / scale,
        }
        for name, symmetry in _symmetries(layout, velocity_bcxy.shape, spacing).items():
            mapped = closure(symmetry(velocity_bcxy).contiguous())
            residuals[name] = _rms(mapped - symmetry(output)) / scale
    return residuals


def _symmetries(layout: str, shape: torch.Size, spacing: tuple[float, float]) -> dict[str, Callable[[Tensor], Tensor]]:
    def mirror_x(field: Tensor) -> Tensor:
        return reflect_x(field, layout)

    def mirror_y(field: Tensor) -> Tensor:
        # Mirroring in y is mirroring in x between two exchanges of the axes; on arrays this needs no square grid.
        return transpose(reflect_x(transpose(field), layout))

    symmetries = {"reflection_x": mirror_x, "reflection_y": mirror_y}
    if shape[-2] == shape[-1] and abs(spacing[0] - spacing[1]) < 1e-6 * spacing[0]:
        symmetries["transposition"] = transpose
        symmetries["rotation_90"] = lambda field: mirror_x(transpose(field))
    return symmetries


def _rms(field: Tensor) -> float:
    return float(field.double().square().mean().sqrt())
