"""The other forms of a run's artifact, by `export.formats`, and the report that all say the same as the network."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
from torch import Tensor

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.metadata import ArtifactMetadata
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.embed.artifact import METADATA_ENTRY, load_artifact, manifest_path
from hpcsurrogate.export.grid_closure import GridClosure
from hpcsurrogate.export.parity import measure_parity, parity_report, parity_table
from hpcsurrogate.export.script import write_artifact

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
    formats: Sequence[str],
    paths: RunPaths,
    closure: GridClosure,
    metadata: ArtifactMetadata,
    golden: tuple[Tensor, Tensor],
    weights: Mapping[str, Tensor],
) -> None:
    """Write the forms beside `model.pt`, which is there, compare all that can be called, and write `parity.json`.

    Parameters
    ----------
    formats : sequence of str       "pt2", "safetensors"; a form not among them is removed, it is of another training
    paths : RunPaths
    closure : GridClosure           the eager one, in the type of `metadata.dtype`
    metadata : ArtifactMetadata
    golden : tuple of Tensor        input and output
    weights : mapping               by name, as trained

    Raises
    ------
    ModelRefusedError    if a form cannot be made, or differs from the network by more than 1e-6 in float32, 1e-12 in
                         float64 (tests/unit/export/test_parity.py)
    """
    _remove(paths.compiled, paths.exported_weights)
    forms = {paths.model.name: load_artifact(paths.model)}
    if "safetensors" in formats:
        write_artifact(paths.exported_weights, weights_file(weights, metadata))
    if "pt2" in formats:
        from hpcsurrogate.export.compiled import compiled_bytes

        write_artifact(paths.compiled, compiled_bytes(closure, metadata, golden[:-1], golden[-1]))
        forms[paths.compiled.name] = load_artifact(paths.compiled, allow_compiled=True)
    differences = measure_parity(closure, forms, golden[:-1], NUM_PARITY_INPUTS)
    write_json_atomic(paths.parity, parity_report(differences, golden[0].dtype, NUM_PARITY_INPUTS))
    for line in parity_table(differences):
        get_logger("export").info("%s", line)


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
