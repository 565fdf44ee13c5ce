"""Measured residuals of the exact properties of a force or a Reynolds stress: how far it is from what physics demands.

What becomes of a field in a frame that is turned, and in other units, follows from its rank and its unit alone.

Legend: n cells; Q = orthogonal matrix. A frame that is turned by Q sees Q u of a vector and Q G Q^T of a tensor.
"""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.core.metadata import ArtifactMetadata, FieldPort
from hpcsurrogate.export.certificate_pointwise import OTHER_LENGTH, OTHER_TIME, full_tensor, random_turns

NUM_DIMS = 3


def measure_cell_residuals(
    closure: Callable[..., Tensor], metadata: ArtifactMetadata, cells: Sequence[Tensor]
) -> dict[str, float]:
    """Measure how well a closure keeps the exact properties, each as a root mean square over that of the output.

    Parameters
    ----------
    closure : callable             the inputs of `metadata` to its one output (n, c)
    metadata : ArtifactMetadata    ranks and units of inputs and output
    cells : sequence of Tensor     real cells

    Returns
    -------
    dict    `rotation` and `reflection` (a random one for each cell), `change_of_units` (metres and seconds counted in
            others); of a force `galilean_invariance` (a velocity as large as the flow's is added); of a stress `trace`,
            `uniform_flow` (of no gradient). 0 is exact [-]

    Raises
    ------
    ModelRefusedError    if the closure returns zeros or non-finite values for these cells
    """
    (port,) = metadata.outputs
    with torch.no_grad():
        output = closure(*cells)
        scale = _rms(output)
        if not (torch.isfinite(output).all() and scale > 0):
            raise ModelRefusedError("the closure returns zeros or non-finite values for real cells; train it again")
        residuals = {}
        for name, sign in (("rotation", 1), ("reflection", -1)):
            turn = random_turns(len(output), NUM_DIMS, sign)
            turned = closure(*(_turned(c, p, turn) for c, p in zip(cells, metadata.inputs, strict=True)))
            residuals[name] = _rms(turned - _turned(output, port, turn))
        counted = closure(*(c * _factor(p.unit) for c, p in zip(cells, metadata.inputs, strict=True)))
        residuals["change_of_units"] = _rms(counted / _factor(port.unit) - output)
        if port.field == "body_force":
            wind = cells[0].square().sum(1).mean().sqrt()
            residuals["galilean_invariance"] = _rms(closure(cells[0] + wind, *cells[1:]) - output)
        else:
            residuals["trace"] = _rms(full_tensor(output, NUM_DIMS).diagonal(dim1=1, dim2=2).sum(1))
            residuals["uniform_flow"] = _rms(closure(torch.zeros_like(cells[0]), *cells[1:]))
    return {name: residual / scale for name, residual in residuals.items()}


def _turned(values: Tensor, port: FieldPort, turn: Tensor) -> Tensor:
    field = FIELDS[port.field]
    if field.rank == 0:
        return values
    exact = values.double()
    if field.rank == 1:
        return (turn @ exact.unsqueeze(2)).squeeze(2).to(values.dtype)
    if not field.symmetric:
        return (turn @ exact.reshape(turn.shape) @ turn.mT).flatten(1).to(values.dtype)
    rows, columns = torch.triu_indices(NUM_DIMS, NUM_DIMS)
    return (turn @ full_tensor(exact, NUM_DIMS) @ turn.mT)[:, rows, columns].to(values.dtype)


def _factor(unit: str) -> float:
    """By what a number grows if lengths grow by OTHER_LENGTH and times shrink by OTHER_TIME, of units of m and s."""
    above, _, below = unit.partition("/")
    lengths = re.fullmatch(r"m(?:\^(\d))?", above)
    times = re.fullmatch(r"s(?:\^(\d))?", below)
    factor = OTHER_LENGTH ** int(lengths.group(1) or 1) if lengths else 1.0
    return factor * OTHER_TIME ** int(times.group(1) or 1) if times else factor


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())
