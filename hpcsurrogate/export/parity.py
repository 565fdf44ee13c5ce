"""How far apart the exported forms of a closure and the network itself are, over many inputs.

In float32 the network itself is off the exact result by its own round-off, which no form of it can undo: on smooth
fields, where large velocities make a small force, by a few 1e-6. A form is therefore held against the network in its
own type, which it must repeat, and its distance from the network in float64 is stated beside that of the network.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.embed.artifact import relative_difference

Form = Callable[..., Tensor]

# Largest |difference| over largest |output| that a form may be off the eager network in its own type.
TOLERANCES = {torch.float32: 1e-6, torch.float64: 1e-12}


@dataclass(frozen=True)
class Difference:
    """Of one form, over all inputs: largest |difference| over largest |output|, the worst input [-]."""

    name: str
    from_eager: float
    """From the eager network in the same type."""
    from_float64: float
    """From the eager network in float64, given the same input."""


def random_inputs(golden: Sequence[Tensor], num_inputs: int, seed: int = 0) -> Iterator[tuple[Tensor, ...]]:
    """Yield inputs like the golden ones, of many sizes and batches, always the same for a seed.

    Parameters
    ----------
    golden : sequence of Tensor    one velocity (1, c, nx, ny[, nz]) [m/s]; or gradient (n, c) [1/s] and width (n,) [m]
    num_inputs : int
    seed : int

    Yields
    ------
    tuple of Tensor    a field: the golden one scaled and translated, whole or beside itself, or noise of its strength
                       on a grid of 8 to 40 cells along each axis (24 of three), 1 to 3 at once. Cells: golden ones
                       scaled, with noise, 1 to 300 of them
    """
    generator = torch.Generator().manual_seed(seed)
    for number in range(num_inputs):
        if len(golden) == 1:
            yield (_random_field(golden[0], number, generator),)
        else:
            yield _random_cells(golden[0], golden[1], generator)


def measure_parity(
    network: nn.Module, forms: Mapping[str, Form], golden: Sequence[Tensor], num_inputs: int
) -> list[Difference]:
    """Compare the forms of a network with it.

    Parameters
    ----------
    network : Module      the eager network
    forms : mapping       name to callable; takes and returns the type of `golden`
    golden : sequence of Tensor    the inputs that random ones are made from
    num_inputs : int

    Returns
    -------
    list of Difference    the first is the eager network itself in the type of `golden`

    Raises
    ------
    ModelRefusedError    if a form is off the eager network by more than 1e-6 in float32, 1e-12 in float64
                         (tests/unit/export/test_parity.py)
    """
    dtype = golden[0].dtype
    exact, eager = (copy.deepcopy(network).to(kind).eval() for kind in (torch.float64, dtype))
    every = {"eager": eager, **forms}
    distances: dict[str, list[tuple[float, float]]] = {name: [] for name in every}
    with torch.no_grad():
        for inputs in random_inputs(golden, num_inputs):
            in_float64, in_own = exact(*(array.double() for array in inputs)), eager(*inputs)
            for name, form in every.items():
                output = form(*inputs)
                distances[name].append((relative_difference(output, in_own), relative_difference(output, in_float64)))
    # torch's maximum is NaN if one is: a form that returns it must not pass.
    differences = [
        Difference(name, *torch.tensor(found, dtype=torch.float64).amax(0).tolist())
        for name, found in distances.items()
    ]
    for difference in differences:
        if not difference.from_eager <= TOLERANCES[dtype]:
            raise ModelRefusedError(
                f"{difference.name}: differs from the trained network by {difference.from_eager:.2e} "
                f"(allowed {TOLERANCES[dtype]:.0e}); the weights or the network changed since export: "
                "export again"
            )
    return differences


def parity_report(differences: Sequence[Difference], dtype: torch.dtype, num_inputs: int) -> dict[str, object]:
    """Return the content of parity.json."""
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "num_inputs": num_inputs,
        "allowed_from_eager": TOLERANCES[dtype],
        "forms": [asdict(difference) for difference in differences],
    }


def parity_table(differences: Sequence[Difference]) -> list[str]:
    """Return the lines to print."""
    lines = [f"{'form':<22}{'from eager':>12}{'from float64':>14}"]
    return lines + [f"{d.name:<22}{d.from_eager:>12.1e}{d.from_float64:>14.1e}" for d in differences]


def _random_field(golden: Tensor, number: int, generator: torch.Generator) -> Tensor:
    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    scale = 0.1 + 0.9 * float(torch.rand((), generator=generator))
    if number % 2:
        largest = 40 if golden.ndim == 4 else 24  # a cube has many cells
        shape = (integer(1, 3), golden.shape[1], *(integer(8, largest) for _ in golden.shape[2:]))
        strength = float(golden.square().mean().sqrt())
        return (scale * strength * torch.randn(shape, generator=generator, dtype=torch.float64)).to(golden.dtype)
    axes = tuple(range(2, golden.ndim))
    moved = (scale * golden).roll([integer(0, golden.shape[axis] - 1) for axis in axes], axes)
    return moved.repeat(integer(1, 2), *[1] * len(axes), integer(1, 2))


def _random_cells(gradient: Tensor, width: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    chosen = torch.randint(len(width), (int(torch.randint(1, 301, (), generator=generator)),), generator=generator)
    scale = 0.1 + 0.9 * torch.rand((), generator=generator, dtype=torch.float64)
    noise = 0.1 * torch.randn(gradient[chosen].shape, generator=generator, dtype=torch.float64)
    strength = gradient.double().square().mean().sqrt()
    return (scale * (gradient[chosen] + strength * noise)).to(gradient.dtype), width[chosen]
