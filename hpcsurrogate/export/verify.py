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
from hpcsurrogate.embed.artifact import Artifact, check_golden, errors_of_torch, load_artifact, manifest_path
from hpcsurrogate.export.cells import INPUTS
from hpcsurrogate.export.certificate import measure_residuals
from hpcsurrogate.export.certificate_cells import measure_cell_residuals
from hpcsurrogate.export.certificate_law import measure_law_residuals
from hpcsurrogate.export.certificate_pointwise import measure_pointwise_residuals
from hpcsurrogate.export.script import parity
from hpcsurrogate.models.build import load_weights

# Residuals of exact properties are round-off and differ between processors; those of a network that does not keep a
# property are of order one and repeat to a few digits. Larger by both of these is another network.
RESIDUAL_ABSOLUTE = 1e-4
RESIDUAL_RELATIVE = 0.01


def verify_artifact(path: str | Path, allow_compiled: bool = False) -> dict[str, Any]:
    """Check one artifact file, of either kind, without the experiment it came from.

    Parameters
    ----------
    path : str or Path       the file
    allow_compiled : bool    whether it may be a `.pt2`, which holds native code

    Returns
    -------
    dict    `file`, `name`, `kind`, `sha256`, `golden_difference` [-], `residuals` (measured again), `certified` (those
            of the certificate), `golden_fallback` (share of the golden cells that the guard gives to the classical
            closure), `a_posteriori`, `guard_holds`, `changed_byte_refused`

    Raises
    ------
    DataError            if the file is missing
    ModelRefusedError    if `load_artifact` refuses it, if it fails on other inputs than the golden ones, if a residual
                         is above the certificate's, if the guard lets a value through that is not finite, or if a copy
                         with one changed byte is not refused (tests/unit/export/test_verify.py)
    """
    path = Path(path)
    artifact = load_artifact(path, allow_compiled=allow_compiled)
    metadata = artifact.metadata
    with errors_of_torch(path, "run"):
        residuals = _measure_residuals(artifact)
        golden_fallback = _check_guard(artifact)
    _compare_residuals(residuals, artifact)
    _require_refusal_of_changed_byte(path, allow_compiled)
    return {
        "file": path.name,
        "name": metadata.name,
        "kind": metadata.kind,
        "sha256": sha256_file(path),
        "golden_difference": check_golden(artifact),
        "residuals": residuals,
        "certified": metadata.certificate.residuals,
        "golden_fallback": golden_fallback,
        "a_posteriori": metadata.certificate.a_posteriori,
        "guard_holds": True,
        "changed_byte_refused": True,
    }


def verification_lines(findings: dict[str, Any]) -> list[str]:
    """Return what `verify_artifact` found, one line each, for a terminal."""
    verdict = findings["a_posteriori"]
    lines = [
        f"{findings['file']}: {findings['name']}, kind {findings['kind']}, SHA-256 {findings['sha256']}",
        f"golden vectors reproduced: relative difference {findings['golden_difference']:.1e}",
    ]
    for name, measured in findings["residuals"].items():
        lines.append(f"residual {name}: {measured:.1e} of the output, certificate {findings['certified'][name]:.1e}")
    lines += [
        "guard: the output is finite for NaN, infinite, huge and denormal input",
        f"guard: {findings['golden_fallback']:.2%} of the golden cells get the classical closure",
        "a copy with one changed byte is refused",
        f"in the coarse solver: {verdict if isinstance(verdict, str) else verdict['verdict']}",
    ]
    return lines


def run_verify(experiment: Experiment, paths: RunPaths) -> dict[str, Any]:
    """Verify the experiment's artifacts, also against the network rebuilt from its weights, and write `verify.json`.

    Returns
    -------
    dict    as `verify_artifact`, and `eager_difference`: largest difference from the rebuilt network over the largest
            output, on the golden input, the same turned by a translation, and noise of the same strength [-];
            `pointwise`, if the run has that form: what `verify_artifact` found of it

    Raises
    ------
    ModelRefusedError    as `verify_artifact`, and if the difference is above 1e-6 (tests/unit/export/test_verify.py)
    """
    findings = verify_artifact(paths.model)
    artifact = load_artifact(paths.model)
    golden = artifact.golden_inputs[0]
    noise = torch.randn(golden.shape, generator=torch.Generator().manual_seed(0), dtype=golden.dtype) * golden.std()
    inputs = torch.cat((golden, golden.roll((3, 5), dims=(-2, -1)), noise))
    findings["eager_difference"] = parity(load_weights(experiment, paths).to(golden.dtype), artifact.module, inputs)
    if paths.pointwise.exists():
        findings["pointwise"] = verify_artifact(paths.pointwise)
    write_json_atomic(paths.verification, findings)
    get_logger("verify").info(
        "verified %s: golden difference %.1e, eager difference %.1e",
        paths.model, findings["golden_difference"], findings["eager_difference"],
    )  # fmt: skip
    return findings


def _measure_residuals(artifact: Artifact) -> dict[str, float]:
    metadata = artifact.metadata
    if metadata.is_law:
        return measure_law_residuals(artifact, *artifact.golden_inputs)
    if metadata.outputs[0].field in INPUTS:
        return measure_cell_residuals(artifact, metadata, artifact.golden_inputs)
    if metadata.kind == "pointwise":
        return measure_pointwise_residuals(artifact, *artifact.golden_inputs)
    return measure_residuals(artifact, artifact.golden_inputs[0], metadata.inputs[0].layout, metadata.host.grid_spacing)


def _check_guard(artifact: Artifact) -> float:
    """Share of the golden cells that fall back; refuses a guard that answers with what is not finite."""
    first, *others = artifact.golden_inputs
    with torch.no_grad():
        output, counts = artifact.guarded(first, *others)
        if sum(counts) == 0 and not torch.equal(output, artifact(first, *others)):
            raise ModelRefusedError(
                f"{artifact.path}: its guard changes cells that it counts as sound; export it again"
            )
        for value in (float("nan"), float("inf"), -1e38, 1e-42):
            harmful = first.clone()
            harmful.view(-1)[:: max(1, harmful.numel() // 7)] = value
            if not torch.isfinite(artifact.guarded(harmful, *others)[0]).all():
                raise ModelRefusedError(f"{artifact.path}: its guard lets {value} through; export the model again")
    port = artifact.metadata.inputs[0]
    return sum(counts) * max(1, len(port.components)) / first.numel()


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


def _require_refusal_of_changed_byte(path: Path, allow_compiled: bool) -> None:
    """Change one byte in the middle of a copy: the loader must refuse it, or its check is worth nothing."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        copy.write_bytes(content)
        shutil.copyfile(manifest_path(path), manifest_path(copy))
        try:
            load_artifact(copy, allow_compiled=allow_compiled)
        except ModelRefusedError:
            return
    raise ModelRefusedError(f"{path}: a copy with one changed byte was loaded; the checksum is not being checked")
