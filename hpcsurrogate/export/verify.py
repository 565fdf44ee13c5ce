"""Check an exported file as a host would meet it, and against the trained network it came from."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from hpcsurrogate.core.atomic import sha256_file, write_json_atomic
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.embed.artifact import Artifact, check_golden, load_artifact, manifest_path
from hpcsurrogate.export.certificate import measure_residuals
from hpcsurrogate.export.script import parity
from hpcsurrogate.models.build import load_weights

# Residuals of exact properties are round-off and differ between processors; those of a network that does not keep a
# property are of order one and repeat to a few digits. Larger by both of these is another network.
RESIDUAL_ABSOLUTE = 1e-4
RESIDUAL_RELATIVE = 0.01


def verify_artifact(path: str | Path) -> dict[str, Any]:
    """Check one artifact file without the experiment it came from.

    Parameters
    ----------
    path : str or Path    the `.pt` file

    Returns
    -------
    dict    `file`, `name`, `sha256`, `golden_difference` [-], `residuals` (measured again), `a_posteriori`,
            `changed_byte_refused`

    Raises
    ------
    DataError            if the file is missing
    ModelRefusedError    if `load_artifact` refuses it, if a residual is above the certificate's, or if a copy with one
                         changed byte is not refused (tests/unit/export/test_verify.py)
    """
    path = Path(path)
    artifact = load_artifact(path)
    metadata = artifact.metadata
    layout, spacing = metadata.inputs[0].layout, metadata.host.grid_spacing
    residuals = measure_residuals(artifact, artifact.golden_input, layout, spacing)
    _compare_residuals(residuals, artifact)
    _require_refusal_of_changed_byte(path)
    return {
        "file": path.name,
        "name": metadata.name,
        "sha256": sha256_file(path),
        "golden_difference": check_golden(artifact),
        "residuals": residuals,
        "a_posteriori": metadata.certificate.a_posteriori,
        "changed_byte_refused": True,
    }


def run_verify(experiment: Experiment, paths: RunPaths) -> dict[str, Any]:
    """Verify the experiment's artifact, also against the network rebuilt from its weights, and write `verify.json`.

    Returns
    -------
    dict    as `verify_artifact`, and `eager_difference`: largest difference from the rebuilt network over the largest
            output, on the golden input, the same turned by a translation, and noise of the same strength [-]

    Raises
    ------
    ModelRefusedError    as `verify_artifact`, and if the difference is above 1e-6 (tests/unit/export/test_verify.py)
    """
    findings = verify_artifact(paths.model)
    artifact = load_artifact(paths.model)
    golden = artifact.golden_input
    noise = torch.randn(golden.shape, generator=torch.Generator().manual_seed(0), dtype=golden.dtype) * golden.std()
    inputs = torch.cat((golden, golden.roll((3, 5), dims=(-2, -1)), noise))
    findings["eager_difference"] = parity(load_weights(experiment, paths), artifact.module, inputs)
    write_json_atomic(paths.verification, findings)
    get_logger("verify").info(
        "verified %s: golden difference %.1e, eager difference %.1e",
        paths.model, findings["golden_difference"], findings["eager_difference"],
    )  # fmt: skip
    return findings


def _compare_residuals(residuals: dict[str, float], artifact: Artifact) -> None:
    certified = artifact.metadata.certificate.residuals
    for name, measured in residuals.items():
        if name not in certified:
            raise ModelRefusedError(f"{artifact.path}: certificate lacks residual '{name}'; export the model again")
        if not measured <= certified[name] * (1 + RESIDUAL_RELATIVE) + RESIDUAL_ABSOLUTE:
            raise ModelRefusedError(
                f"{artifact.path}: residual '{name}' is {measured:.2e}, its certificate says {certified[name]:.2e}; "
                "export the model again"
            )


def _require_refusal_of_changed_byte(path: Path) -> None:
    """Change one byte in the middle of a copy: the loader must refuse it, or its check is worth nothing."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        copy.write_bytes(content)
        shutil.copyfile(manifest_path(path), manifest_path(copy))
        try:
            load_artifact(copy)
        except ModelRefusedError:
            return
    raise ModelRefusedError(f"{path}: a copy with one changed byte was loaded; the checksum is not being checked")
