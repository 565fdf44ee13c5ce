"""Artifacts of networks with random weights, for timing and for tests of hosts: the same code and cost, no training."""

import math
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, Model, SpectralHost
from hpcsurrogate.core.metadata import (
    ArtifactMetadata,
    Certificate,
    FallbackDescription,
    FilterDescription,
    HostDescription,
    ValidityRange,
)
from hpcsurrogate.export.describe import field_port
from hpcsurrogate.export.grid_closure import GridClosure, grid_closure, halo_of
from hpcsurrogate.export.script import artifact_bytes, script_module, write_artifact
from hpcsurrogate.models.build import build_model
from hpcsurrogate.physics.differences import gradient_magnitude, speed

HostConfig = FiniteVolumeHost | SpectralHost


def random_velocity(host: HostConfig, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Return noise of about 1 m/s on the host's grid, shape (1, d, nx, ny[, nz])."""
    return torch.randn(1, len(host.grid), *host.grid, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_closure(model: dict, host: HostConfig, flow: Flow, golden_input: Tensor, seed: int = 0) -> GridClosure:
    """Return a network with random weights, its guard and its classical closure.

    Parameters
    ----------
    model : dict            section train.model
    host, flow : sections of the experiment
    golden_input : Tensor, shape (1, d, nx, ny[, nz]) [m/s]    gives the dtype; the trained range is twice its own
    seed : int              of the weights
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_model(TypeAdapter(Model).validate_python(model), host, flow, None)
        with torch.no_grad():
            for weight in network.parameters():
                weight.copy_(torch.randn_like(weight) / math.sqrt(max(1, weight.numel() // max(1, len(weight)))))
    spacing = tuple(length / points for length, points in zip(flow.domain, host.grid, strict=True))
    layout = "staggered" if host.kind == "finite_volume" else "collocated"
    staggered = layout == "staggered"
    validity = ValidityRange(
        velocity_magnitude=(0.0, 2 * float(speed(golden_input, staggered).max())),
        gradient_magnitude=(0.0, 2 * float(gradient_magnitude(golden_input, list(spacing), staggered).max())),
    )
    closure = grid_closure(network, _fallback(spacing), validity, layout, spacing)
    return closure.to(golden_input.dtype).eval()


def write_random_artifact(path: Path, model: dict, host: HostConfig, flow: Flow, golden_input: Tensor) -> GridClosure:
    """Write `random_closure` as an artifact of kind `grid`, with nothing in its certificate, and return it."""
    closure = random_closure(model, host, flow, golden_input)
    spacing = tuple(closure.spacing)
    layout = "staggered" if closure.staggered else "collocated"
    metadata = ArtifactMetadata(
        name=model["kind"],
        kind="grid",
        inputs=(field_port("velocity", len(spacing), layout),),
        outputs=(field_port("commutator", len(spacing), layout),),
        dtype=str(golden_input.dtype).removeprefix("torch."),
        filter=FilterDescription(kind="sharp", width=_width(spacing)),
        host=HostDescription(
            kind=host.kind,
            order=getattr(host, "order", None),
            advection=getattr(host, "advection", None),
            grid_spacing=spacing,
            time_step=host.time_step,
        ),
        validity=ValidityRange(velocity_magnitude=(0.0, closure.fastest), gradient_magnitude=(0.0, closure.steepest)),
        halo=halo_of(closure.network),
        linear_damping=hasattr(closure.network, "damping_rates"),
        fallback=_fallback(spacing),
        training_data_digest="0" * 64,
        config_digest="0" * 64,
        provenance={},
        certificate=Certificate(residuals={}, a_priori={}),
    )
    scripted = script_module(closure)
    with torch.no_grad():
        golden_output = scripted(golden_input)
    write_artifact(path, artifact_bytes(scripted, metadata, [golden_input], golden_output))
    return closure


def _width(spacing: tuple[float, ...]) -> float:
    return math.prod(spacing) ** (1 / len(spacing))


def _fallback(spacing: tuple[float, ...]) -> FallbackDescription:
    return FallbackDescription(kind="smagorinsky", constant=0.17, width=_width(spacing))
