"""Write artifacts of kind `pointwise`: the one of a run's network, and those of closures that anyone has written.

A code on any mesh, with gradient and filter width of its cells at hand, calls such a file; a classical closure written
as one is what its developer tests the coupling with, since he knows the answer.

Legend: n cells, d = 2 or 3 dimensions.
"""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from hpcsurrogate.core.metadata import (
    ArtifactMetadata,
    Certificate,
    FallbackDescription,
    FieldPort,
    FilterDescription,
    HostDescription,
    ValidityRange,
)
from hpcsurrogate.core.provenance import digest, provenance
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.export.certificate_pointwise import measure_pointwise_residuals
from hpcsurrogate.export.describe import field_port
from hpcsurrogate.export.pointwise_closure import PointwiseClosure
from hpcsurrogate.export.script import artifact_bytes, parity, script_module, write_artifact
from hpcsurrogate.models.cell_stress import gradient_in_cells

NUM_GOLDEN_CELLS = 256


def describe_pointwise(
    name: str,
    num_dims: int,
    filter_description: FilterDescription,
    host: HostDescription,
    largest_gradient: float,
    fallback_constant: float = 0.17,
    dtype: str = "float32",
    scaled: bool = False,
) -> ArtifactMetadata:
    """Describe a pointwise closure that was not trained here.

    Parameters
    ----------
    name : str
    num_dims : int                              2 or 3
    filter_description : FilterDescription      the width is the one that it is meant for; each cell brings its own
    host : HostDescription                      the code that it is meant for
    largest_gradient : float [1/s]              Frobenius norm above which a cell gets Smagorinsky's closure instead
    fallback_constant : float [-]               of that
    dtype : str                                 "float32" or "float64"
    scaled : bool                               whether hosts give it the gradient scaled by the shape of the cell

    Returns
    -------
    ArtifactMetadata    its certificate is empty until `write_pointwise` has measured it
    """
    return ArtifactMetadata(
        name=name,
        kind="pointwise",
        inputs=(_port(f"{'scaled_' * scaled}velocity_gradient", num_dims), _port("filter_width", num_dims)),
        outputs=(_port("sgs_stress", num_dims),),
        dtype=dtype,
        filter=filter_description,
        host=host,
        validity=ValidityRange(velocity_magnitude=None, gradient_magnitude=(0.0, float(largest_gradient))),
        halo=0,
        fallback=FallbackDescription(kind="smagorinsky", constant=fallback_constant, width=None),
        training_data_digest=digest(None),
        config_digest=digest(None),
        provenance=provenance(),
        certificate=Certificate(residuals={}, a_priori={}),
    )


def write_pointwise(
    path: str | Path, core: nn.Module, metadata: ArtifactMetadata, cells: tuple[Tensor, Tensor] | None = None
) -> ArtifactMetadata:
    """Write a pointwise closure as an artifact, and its checksum and its card beside it.

    Parameters
    ----------
    path : str or Path
    core : Module                   velocity gradient (n, d*d) [1/s], row by row, and filter width (n,) [m] to the
                                    deviatoric stress (n, d(d+1)/2) [m^2/s^2], each cell by itself; in plain torch,
                                    which TorchScript can express
    metadata : ArtifactMetadata     of `describe_pointwise`
    cells : tuple of Tensor, optional    gradients and widths to test it on, here and at every load; random ones within
                                         the range if not given

    Returns
    -------
    ArtifactMetadata    with the measured residuals in its certificate

    Raises
    ------
    ModelRefusedError    if TorchScript cannot express the core, or it returns zeros or non-finite values
                         (tests/unit/export/test_pointwise.py)
    """
    dtype = getattr(torch, metadata.dtype)
    closure = pointwise_closure(core, metadata)
    gradient, width = (tensor.to(dtype) for tensor in cells or random_cells(metadata))
    scripted = script_module(closure)
    residuals = measure_pointwise_residuals(scripted, gradient, width)
    parity(closure, scripted, gradient, width)
    certificate = metadata.certificate.model_copy(update={"residuals": residuals})
    metadata = metadata.model_copy(update={"certificate": certificate})
    with torch.no_grad():
        stress = scripted(gradient, width)
    content = artifact_bytes(scripted, metadata, [gradient, width], stress, closure.core.state_dict() or None)
    write_artifact(Path(path), content, metadata)
    return metadata


def write_pointwise_of_run(
    path: Path, core: nn.Module, grid_metadata: ArtifactMetadata, catalogue: Catalogue, realisation: int
) -> ArtifactMetadata:
    """Write the pointwise form of a run's network, beside the form that takes a whole field.

    Parameters
    ----------
    path : Path
    core : Module                        the network's part that gives the stress of a cell
    grid_metadata : ArtifactMetadata     of the whole network: the same filter, host, range of gradients and scores
    catalogue : Catalogue                of the prepared shards
    realisation : int                    of the training split: its last snapshot gives the cells to test the file on

    Raises
    ------
    DataError            if the shard is missing or damaged
    ModelRefusedError    as `write_pointwise`
    """
    num_dims = len(grid_metadata.host.grid_spacing)
    fallback = grid_metadata.fallback.model_copy(update={"width": None})
    metadata = grid_metadata.model_copy(
        update={
            "kind": "pointwise",
            "inputs": (_port("velocity_gradient", num_dims), _port("filter_width", num_dims)),
            "outputs": (_port("sgs_stress", num_dims),),
            "validity": grid_metadata.validity.model_copy(update={"velocity_magnitude": None}),
            "halo": 0,
            "fallback": fallback,
        }
    )
    with catalogue.open(realisation, verify=True) as recorded:
        velocity = torch.from_numpy(recorded.snapshot("velocity", -1)).double().unsqueeze(0)
    staggered = grid_metadata.inputs[0].layout == "staggered"
    gradient = gradient_in_cells(velocity, list(grid_metadata.host.grid_spacing), staggered)[0].flatten(1).T
    chosen = torch.linspace(0, len(gradient) - 1, min(NUM_GOLDEN_CELLS, len(gradient))).round().long()
    width = torch.full((len(chosen),), metadata.filter.width, dtype=torch.float64)
    return write_pointwise(path, core, metadata, (gradient[chosen].contiguous(), width))


def pointwise_closure(core: nn.Module, metadata: ArtifactMetadata) -> PointwiseClosure:
    """Return a copy of a core with its guard, in the dtype of the metadata, as the file will hold it."""
    num_dims = num_dims_of(metadata)
    closure = PointwiseClosure(copy.deepcopy(core), num_dims, metadata.fallback, metadata.validity)
    return closure.to(getattr(torch, metadata.dtype)).eval().requires_grad_(False)


def num_dims_of(metadata: ArtifactMetadata) -> int:
    """Return d of a pointwise artifact, from the components of its velocity gradient."""
    return 2 if len(metadata.inputs[0].components) == 4 else 3


def random_cells(metadata: ArtifactMetadata) -> tuple[Tensor, Tensor]:
    """Return gradients (n, d*d) [1/s] without divergence, within the range, and widths (n,) [m]; always the same."""
    generator, num_dims = torch.Generator().manual_seed(0), num_dims_of(metadata)
    gradient = torch.randn(NUM_GOLDEN_CELLS, num_dims, num_dims, generator=generator, dtype=torch.float64)
    divergence = gradient.diagonal(dim1=1, dim2=2).sum(1)
    gradient = gradient - (divergence / num_dims)[:, None, None] * torch.eye(num_dims, dtype=torch.float64)
    norm, sizes = gradient.square().sum((1, 2)).sqrt(), torch.rand(NUM_GOLDEN_CELLS, generator=generator).double()
    gradient = gradient * (metadata.validity.gradient_magnitude[1] * sizes / norm)[:, None, None]
    spread = 0.5 + torch.rand(NUM_GOLDEN_CELLS, generator=generator).double()
    return gradient.flatten(1), metadata.filter.width * spread


def _port(name: str, num_dims: int) -> FieldPort:
    return field_port(name, num_dims, "collocated", "nc")  # in a cell all components stand at its centre
