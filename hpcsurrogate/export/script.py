"""From a trained module to the bytes of a TorchScript file, and from bytes to a file that is never half-written."""

import hashlib
import io
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from hpcsurrogate.core.atomic import atomic_path, write_text_atomic
from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.core.metadata import ArtifactMetadata
from hpcsurrogate.embed.artifact import GOLDEN_ENTRY, METADATA_ENTRY, WEIGHTS_ENTRY, manifest_path
from hpcsurrogate.embed.torchscript import quiet_torchscript

# Eager and scripted run the same kernels on the same weights; float32 leaves about 1e-7 where an operation is fused.
PARITY_TOLERANCE = 1e-6


def script_module(module: nn.Module) -> torch.jit.ScriptModule:
    """Script and freeze a module: weights become constants, and what only depends on weights is computed once.

    Raises
    ------
    ModelRefusedError    if the module uses Python that TorchScript cannot express
    """
    try:
        with quiet_torchscript(), torch.no_grad():
            return torch.jit.freeze(torch.jit.script(module.eval()), optimize_numerics=False)
    except Exception as error:  # its front end also lets TypeError and others of the code it reads through
        reason = str(error).strip().splitlines()[0]
        raise ModelRefusedError(
            f"{type(module).__name__}: TorchScript cannot express it ({reason}); use torch functions on plain Tensors"
        ) from None


def parity(eager: nn.Module, exported: nn.Module, velocity_bcxy: Tensor) -> float:
    """Return the largest difference between two closures over the largest output of the first [-].

    Parameters
    ----------
    eager, exported : Module    both map (b, 2, nx, ny) [m/s] to (b, 2, nx, ny) [m/s^2]
    velocity_bcxy : Tensor, shape (b, 2, nx, ny) [m/s]

    Raises
    ------
    ModelRefusedError    above `PARITY_TOLERANCE` (tests/unit/export/test_stage.py)
    """
    with torch.no_grad():
        expected, output = eager(velocity_bcxy), exported(velocity_bcxy)
    difference = float((output - expected).abs().max() / expected.abs().max())
    if not difference <= PARITY_TOLERANCE:
        raise ModelRefusedError(
            f"exported and trained network differ by {difference:.2e} (allowed {PARITY_TOLERANCE:.0e}); "
            "the weights changed since export, or scripting changed the network: export again"
        )
    return difference


def artifact_bytes(
    scripted: torch.jit.ScriptModule,
    metadata: ArtifactMetadata,
    golden_input: Tensor,
    golden_output: Tensor,
    weights: dict[str, Tensor] | None = None,
) -> bytes:
    """Return the whole artifact file; with the weights by name another training can start from it.

    Notes
    -----
    It is written to memory first because torch names the archive's folder after the file; under a temporary name the
    same network would give other bytes each time. Same weights, same constants (tests/unit/export/test_stage.py).
    """
    golden = {"input": golden_input.contiguous(), "output": golden_output.contiguous()}
    extra_files = {METADATA_ENTRY: metadata.to_json(), GOLDEN_ENTRY: safetensors.torch.save(golden)}
    if weights is not None:
        extra_files[WEIGHTS_ENTRY] = safetensors.torch.save(weights)
    buffer = io.BytesIO()
    with quiet_torchscript():
        torch.jit.save(scripted, buffer, _extra_files=extra_files)
    return buffer.getvalue()


def write_artifact(path: Path, content: bytes) -> None:
    """Write the file and the checksum beside it.

    Notes
    -----
    The old checksum goes first: killed in between, the run has a model without a checksum, which every host refuses.
    """
    manifest = manifest_path(path)
    manifest.unlink(missing_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    write_text_atomic(manifest, f"{hashlib.sha256(content).hexdigest()}  {path.name}\n")
