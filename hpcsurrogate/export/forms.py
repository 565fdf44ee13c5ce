"""The other forms of a run's artifact, by `export.formats`, and the report that all say the same as the network."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.metadata import ArtifactMetadata
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.embed.artifact import METADATA_ENTRY, Artifact, load_artifact, manifest_path
from hpcsurrogate.export.grid_closure import GridClosure
from hpcsurrogate.export.parity import measure_parity, parity_report, parity_table
from hpcsurrogate.export.pointwise_closure import PointwiseClosure
from hpcsurrogate.export.script import write_artifact

Closure = GridClosure | PointwiseClosure
NUM_PARITY_INPUTS = 50


def require_formats(formats: Sequence[str]) -> None:
    """Make sure that all forms can be written here, before anything is.

    Raises
    ------
    ConfigError    if `pt2` is among them and cannot be compiled (tests/unit/export/test_compiled.py)
    """
    if "pt2" in formats:
        from hpcsurrogate.export.compiled import require_compiler

        require_compiler()


def write_forms(
    formats: Sequence[str], paths: RunPaths, closures: Mapping[Path, Closure], weights: Mapping[str, Tensor]
) -> None:
    """Write the forms beside the `.pt` files, which are there; compare all that can be called in `parity.json`.

    Parameters
    ----------
    formats : sequence of str    "pt2" of each `.pt` file, "safetensors" of all weights; one that is not among them is
                                 removed, since it is of another training
    paths : RunPaths
    closures : mapping           `.pt` file to the eager closure it was made from, in the file's type
    weights : mapping            by name, as trained

    Raises
    ------
    ModelRefusedError    if a form cannot be made, or differs from the network by more than 1e-6 in float32, 1e-12 in
                         float64 (tests/unit/export/test_parity.py)
    """
    _remove(paths.compiled, paths.pointwise_compiled, paths.exported_weights)
    differences, dtype = [], torch.float32
    for path, closure in closures.items():
        artifact = load_artifact(path)
        forms, dtype = {path.name: artifact}, artifact.golden_output.dtype
        if path == paths.model and "safetensors" in formats:
            write_artifact(paths.exported_weights, weights_file(weights, artifact.metadata))
        if "pt2" in formats:
            compiled = _write_compiled(path.with_suffix(".pt2"), closure, artifact)
            forms[compiled.path.name] = compiled
        eager, *others = measure_parity(closure, forms, artifact.golden_inputs, NUM_PARITY_INPUTS)
        differences += [replace(eager, name=f"{path.stem}, eager"), *others]
    write_json_atomic(paths.parity, parity_report(differences, dtype, NUM_PARITY_INPUTS))
    for line in parity_table(differences):
        get_logger("export").info("%s", line)


def _write_compiled(path: Path, closure: Closure, artifact: Artifact) -> Artifact:
    from hpcsurrogate.export.compiled import compiled_bytes

    content = compiled_bytes(closure, artifact.metadata, artifact.golden_inputs, artifact.golden_output)
    write_artifact(path, content)
    return load_artifact(path, allow_compiled=True)


def weights_file(weights: Mapping[str, Tensor], metadata: ArtifactMetadata) -> bytes:
    """Return a safetensors file of weights, with `hpcsurrogate.json` in its header: for tools that build the network.

    Notes
    -----
    The weights keep their bits and the metadata read back equal (tests/unit/export/test_parity.py).
    """
    tensors = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
    return safetensors.torch.save(tensors, {"format": "pt", METADATA_ENTRY: metadata.to_json()})


def _remove(*artifacts: Path) -> None:
    for path in artifacts:
        path.unlink(missing_ok=True)
        manifest_path(path).unlink(missing_ok=True)
