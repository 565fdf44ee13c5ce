"""The rates of an artifact that is a linear damping, for a solver that takes them into its linear term at no cost.

Such a closure multiplies every Fourier mode of the velocity by a negative number, on any layout. A solver with an
integrating factor, or an implicit viscous term, adds these numbers there and need not call the artifact again.
"""

import torch
from torch import Tensor

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.embed.artifact import Artifact, relative_difference

# Of the golden output: the impulse has all modes alike, so that each rate is off by the round-off of the largest.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}


def damping_rates(artifact: Artifact, shape: tuple[int, ...]) -> Tensor:
    """Return the damping rate of every mode of a grid, at the same share of its largest wavenumber as in training.

    Parameters
    ----------
    artifact : Artifact    whose metadata say `linear_damping`
    shape : tuple of int   points nx, ny[, nz] of a grid whose cells have the shape of those of the training

    Returns
    -------
    Tensor, shape (nx, ny // 2 + 1) or (nx, ny, nz // 2 + 1), float64, not negative [1/s]
        the half-spectrum of `torch.fft.rfftn`: acceleration_hat = - rates * velocity_hat

    Raises
    ------
    ModelRefusedError    if the artifact is no linear damping, or not the one that its golden output shows
                         (tests/unit/embed/test_damping.py)
    ShapeError           if the grid has another number of axes
    """
    if not artifact.metadata.linear_damping:
        raise ModelRefusedError(f"{artifact.path}: is no linear damping and has no rates; call it as a closure")
    golden_input, expected = artifact.golden_inputs[0].double(), artifact.golden_output
    grid_shape = golden_input.shape[2:]
    axes = tuple(range(2, golden_input.ndim))
    output = torch.fft.irfftn(
        -_response(artifact, grid_shape) * torch.fft.rfftn(golden_input, dim=axes), s=grid_shape, dim=axes
    )
    difference = relative_difference(output, expected)
    if not difference <= TOLERANCE[expected.dtype]:
        raise ModelRefusedError(
            f"{artifact.path}: its metadata say linear_damping, but its golden output is another (relative difference "
            f"{difference:.1e}); export the model again"
        )
    return _response(artifact, torch.Size(shape))


def _response(artifact: Artifact, shape: torch.Size) -> Tensor:
    """What is left of a unit impulse of the first component, whose modes are all one."""
    golden = artifact.golden_output
    impulse = golden.new_zeros((1, golden.shape[1], *shape))
    impulse[(0, 0) + (0,) * len(shape)] = 1.0
    with torch.no_grad():
        return -torch.fft.rfftn(artifact(impulse)[0, 0].double()).real.clamp(max=0.0)
