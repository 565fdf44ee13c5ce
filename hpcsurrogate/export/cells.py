"""Write a body force or a Reynolds stress that anyone has written, or trained, as an artifact of kind `pointwise`.

Legend: n cells in three dimensions; u velocity; G_ij = du_i/dx_j, row by row; Delta = width of the cell; k turbulent
energy, epsilon its dissipation.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.core.metadata import UNFILTERED, ArtifactMetadata, Certificate, FallbackDescription, ValidityRange
from hpcsurrogate.core.provenance import digest, provenance
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.export.cell_closure import CellClosure, EddyViscosityStress, ForceLimits, NoForce, ReynoldsLimits
from hpcsurrogate.export.certificate_cells import measure_cell_residuals
from hpcsurrogate.export.describe import field_port
from hpcsurrogate.export.script import artifact_bytes, parity, script_module, write_artifact

NUM_DIMS = 3
NUM_GOLDEN_CELLS = 256
INPUTS = {
    "body_force": ("velocity", "velocity_gradient", "filter_width"),
    "reynolds_stress": ("velocity_gradient", "turbulent_energy", "dissipation"),
}


def write_force(
    path: str | Path, core: nn.Module, cells: Sequence[Tensor], name: str, dtype: str = "float64"
) -> ArtifactMetadata:
    """Write a body force as an artifact, and its checksum and its card beside it.

    Parameters
    ----------
    path : str or Path
    core : Module                velocity (n, 3) [m/s], gradient (n, 9) [1/s] and width (n,) [m] to the acceleration
                                 (n, 3) [m/s^2], each cell by itself; in plain torch, which TorchScript can express
    cells : sequence of Tensor   the inputs it was trained on: their largest |u| and |G| are the range beyond which a
                                 cell gets no force, and some of them test the file at every load
    name : str
    dtype : str                  "float32" or "float64"

    Returns
    -------
    ArtifactMetadata    with the measured residuals in its certificate

    Raises
    ------
    ModelRefusedError    if TorchScript cannot express the core, it calls what artifacts may not, it returns zeros or
                         non-finite values, or the cells have no range (tests/unit/export/test_cells.py)
    """
    speed, slope = (values.double().square().sum(1).sqrt() for values in cells[:2])
    validity = ValidityRange(velocity_magnitude=_range(speed), gradient_magnitude=_range(slope))
    metadata = _describe(name, "body_force", dtype, validity, 0.0)
    return _write(path, CellClosure(copy.deepcopy(core), ForceLimits(validity), NoForce()), metadata, cells)


def write_reynolds_stress(
    path: str | Path, core: nn.Module, cells: Sequence[Tensor], name: str, dtype: str = "float64", cmu: float = 0.09
) -> ArtifactMetadata:
    """Write a Reynolds stress as an artifact, and its checksum and its card beside it.

    Parameters
    ----------
    path : str or Path
    core : Module                gradient (n, 9) [1/s], k (n,) [m^2/s^2] and epsilon (n,) [m^2/s^3] to the deviatoric
                                 stress 2 k b (n, 6) [m^2/s^2], b being the anisotropy; otherwise as `write_force`
    cells : sequence of Tensor   the inputs it was trained on: their largest |G| k/epsilon is the range beyond which a
                                 cell gets the eddy viscosity of the k-epsilon model
    name : str
    dtype : str                  "float32" or "float64"
    cmu : float [-]              of that model

    Returns
    -------
    ArtifactMetadata    as `write_force`

    Raises
    ------
    ModelRefusedError    as `write_force`
    """
    gradient, energy, dissipation = (values.double() for values in cells)
    validity = ValidityRange(
        velocity_magnitude=None, gradient_magnitude=_range(gradient.square().sum(1).sqrt() * energy / dissipation)
    )
    metadata = _describe(name, "reynolds_stress", dtype, validity, cmu)
    closure = CellClosure(copy.deepcopy(core), ReynoldsLimits(validity), EddyViscosityStress(cmu))
    return _write(path, closure, metadata, cells)


def _range(values: Tensor) -> tuple[float, float]:
    smallest, largest = (float(value) for value in values.aminmax())
    if not 0 < largest < float("inf"):
        raise ModelRefusedError(f"the cells reach up to {largest:g}: at rest, or not finite; give those of a flow")
    return smallest, largest


def _describe(name: str, field: str, dtype: str, validity: ValidityRange, constant: float) -> ArtifactMetadata:
    def port(each: str):
        return field_port(each, NUM_DIMS, "collocated", "nc")

    return ArtifactMetadata(
        name=name,
        kind="pointwise",
        inputs=tuple(port(each) for each in INPUTS[field]),
        outputs=(port(field),),
        dtype=dtype,
        filter=None,
        host=None,
        validity=validity,
        halo=0,
        fallback=FallbackDescription(kind=UNFILTERED[field], constant=constant, width=None),
        training_data_digest=digest(None),
        config_digest=digest(None),
        provenance=provenance(),
        certificate=Certificate(residuals={}, a_priori={}),
    )


def _write(
    path: str | Path, closure: CellClosure, metadata: ArtifactMetadata, cells: Sequence[Tensor]
) -> ArtifactMetadata:
    dtype = getattr(torch, metadata.dtype)
    chosen = torch.linspace(0, len(cells[0]) - 1, min(NUM_GOLDEN_CELLS, len(cells[0]))).round().long()
    golden = [values[chosen].to(dtype) for values in cells]
    closure = closure.to(dtype).eval().requires_grad_(False)
    scripted = script_module(closure)
    residuals = measure_cell_residuals(scripted, metadata, golden)
    parity(closure, scripted, *golden)
    certificate = metadata.certificate.model_copy(update={"residuals": residuals})
    metadata = metadata.model_copy(update={"certificate": certificate})
    with torch.no_grad():
        output = scripted(*golden)
    content = artifact_bytes(scripted, metadata, golden, output, closure.core.state_dict() or None)
    write_artifact(Path(path), content, metadata)
    load_artifact(path)  # what hosts would refuse, an operator that they do not know, say, is said to its author
    return metadata
