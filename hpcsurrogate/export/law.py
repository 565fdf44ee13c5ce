"""Write the law of a fluid as an artifact of kind `pointwise`: state and velocity gradient in, stress and error out."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from hpcsurrogate.core.metadata import ArtifactMetadata, Certificate, NewtonianDescription, ValidityRange
from hpcsurrogate.core.provenance import provenance
from hpcsurrogate.export.cell_closure import CellClosure
from hpcsurrogate.export.certificate_law import measure_law_residuals
from hpcsurrogate.export.describe import field_port
from hpcsurrogate.export.law_closure import LawLimits, NewtonianLaw
from hpcsurrogate.export.script import artifact_bytes, parity, script_module, write_artifact

INPUTS = ("density", "temperature", "velocity_gradient")
OUTPUTS = ("stress", "stress_error")


def describe_law(
    name: str,
    units: dict[str, str],
    validity: ValidityRange,
    fallback: NewtonianDescription,
    a_priori: dict,
    training_data: str,
    configuration: str,
) -> ArtifactMetadata:
    """Describe the law of a fluid.

    Parameters
    ----------
    name : str
    units : dict                     of density, temperature, velocity_gradient, stress
    validity : ValidityRange         of gradient, density and temperature
    fallback : NewtonianDescription
    a_priori : dict                  scores, for the card
    training_data, configuration : str    SHA-256 of both

    Returns
    -------
    ArtifactMetadata    its residuals are empty until `write_law` has measured them
    """
    units = units | {"stress_error": units["stress"]}
    inputs, outputs = (
        tuple(field_port(field, 3, "collocated", "nc").model_copy(update={"unit": units[field]}) for field in fields)
        for fields in (INPUTS, OUTPUTS)
    )
    return ArtifactMetadata(
        name=name,
        kind="pointwise",
        inputs=inputs,
        outputs=outputs,
        dtype="float64",
        filter=None,
        host=None,
        validity=validity,
        halo=0,
        fallback=fallback,
        training_data_digest=training_data,
        config_digest=configuration,
        provenance=provenance(),
        certificate=Certificate(residuals={}, a_priori=a_priori),
    )


def write_law(
    path: str | Path, law: nn.Module, metadata: ArtifactMetadata, cells: tuple[Tensor, Tensor, Tensor]
) -> ArtifactMetadata:
    """Write a law as an artifact, and its checksum and its card beside it.

    Parameters
    ----------
    path : str or Path
    law : Module                    density (n,), temperature (n,) and velocity gradient (n, 9), float64, to stress and
                                    its standard deviation (n, 12); in plain torch, which TorchScript can express
    metadata : ArtifactMetadata     of `describe_law`
    cells : tuple of Tensor         real inputs to test it on, here and at every load

    Returns
    -------
    ArtifactMetadata    with the measured residuals in its certificate

    Raises
    ------
    ModelRefusedError    if TorchScript cannot express the law, or it returns zeros or non-finite values
                         (tests/unit/export/test_law.py)
    """
    limits, fallback = LawLimits(metadata.validity), NewtonianLaw(metadata.fallback, metadata.validity)
    closure = CellClosure(copy.deepcopy(law), limits, fallback).eval().requires_grad_(False)
    scripted = script_module(closure)
    residuals = measure_law_residuals(scripted, *cells)
    parity(closure, scripted, *cells)
    certificate = metadata.certificate.model_copy(update={"residuals": residuals})
    metadata = metadata.model_copy(update={"certificate": certificate})
    with torch.no_grad():
        output = scripted(*cells)
    weights = {name: value.contiguous() for name, value in law.state_dict().items()}
    write_artifact(Path(path), artifact_bytes(scripted, metadata, cells, output, weights or None), metadata)
    return metadata
