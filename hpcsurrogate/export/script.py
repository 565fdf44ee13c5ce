"""From a trained module to the bytes of a TorchScript file, and from bytes to a file that is never half-written."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from hpcsurrogate.core.atomic import atomic_path, write_text_atomic
from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.core.metadata import ArtifactMetadata
from hpcsurrogate.embed.archive import check_archive
from hpcsurrogate.embed.artifact import METADATA_ENTRY, WEIGHTS_ENTRY, manifest_path, relative_difference
from hpcsurrogate.embed.card import card
from hpcsurrogate.embed.torchscript import quiet_torchscript
from hpcsurrogate.export.archive_file import pack
from hpcsurrogate.export.parity import TOLERANCES

DEEPEST_LOOPS = 8  # more than any closure nests: loops that are left then have no known length

# What hosts use beside `forward`, and what freezing would otherwise drop.
METHODS = ("guarded", "classical", "advection_hat")
PRESERVED = (*METHODS, "facts", "golden")


def script_module(module: nn.Module) -> torch.jit.ScriptModule:
    """Script and freeze a module: weights become constants, and what only depends on weights is computed once.

    Parameters
    ----------
    module : Module    a GridClosure or PointwiseClosure, whose guard, classical closure and tables stay; of any other
                       only `forward`, and the loader refuses such a file

    Raises
    ------
    ModelRefusedError    if the module uses Python that TorchScript cannot express, or a loop whose length depends on
                         the input (tests/unit/export/test_script.py)
    """
    try:
        with quiet_torchscript(), torch.no_grad():
            scripted = torch.jit.script(module.eval())
            preserved = [name for name in PRESERVED if hasattr(scripted, name)]
            frozen = torch.jit.freeze(scripted, preserved, optimize_numerics=False)
    except Exception as error:  # its front end also lets TypeError and others of the code it reads through
        reason = str(error).strip().splitlines()[0]
        raise ModelRefusedError(
            f"{type(module).__name__}: TorchScript cannot express it ({reason}); use torch functions on plain Tensors"
        ) from None
    for name in ("forward", *METHODS):
        if hasattr(frozen, name) and not write_out_loops(getattr(frozen, name).graph):
            raise ModelRefusedError(
                f"{type(module).__name__}: {name} has a loop whose length depends on the input, and hosts accept code "
                "without loops alone; loop over a number that the module keeps (self.num_dims, not velocity.ndim)"
            )
    return frozen


def write_out_loops(graph: torch.Graph) -> bool:
    """Replace loops of a known length, over axes or layers, by their passes; whether no other loop is left.

    Notes
    -----
    Passes that torch itself runs before execution. Each round unrolls the innermost loops whose length is known by
    then, and takes the lists that they fill apart (tests/unit/export/test_script.py). They are private to torch: where
    a version lacks one, this fails at the first closure with a loop, by its name.
    """
    passes = torch._C
    rounds = 0
    with torch.no_grad():  # of the weights too something may be computed here once and for all
        while graph.findAllNodes("prim::Loop") and rounds < DEEPEST_LOOPS:
            passes._jit_pass_constant_loop_unrolling(graph)
            passes._jit_pass_remove_mutation(graph)
            passes._jit_pass_peephole_list_idioms(graph)
            passes._jit_pass_constant_propagation(graph)
            rounds += 1
    passes._jit_pass_dce(graph)
    return not graph.findAllNodes("prim::Loop")


def parity(eager: nn.Module, exported: nn.Module, *inputs: Tensor) -> float:
    """Return the largest difference between two closures over the largest output of the first [-].

    Parameters
    ----------
    eager, exported : Module    as `GridClosure` or `PointwiseClosure`
    *inputs : Tensor            as those take them

    Raises
    ------
    ModelRefusedError    above the `TOLERANCES` of export/parity.py (tests/unit/export/test_stage.py)
    """
    with torch.no_grad():
        expected, output = eager(*inputs), exported(*inputs)
    difference, tolerance = relative_difference(output, expected), TOLERANCES[expected.dtype]
    if not difference <= tolerance:
        raise ModelRefusedError(
            f"exported and trained network differ by {difference:.2e} (allowed {tolerance:.0e}); "
            "the weights changed since export, or scripting changed the network: export again"
        )
    return difference


def artifact_bytes(
    scripted: torch.jit.ScriptModule,
    metadata: ArtifactMetadata,
    golden_inputs: Sequence[Tensor],
    golden_output: Tensor,
    weights: dict[str, Tensor] | None = None,
) -> bytes:
    """Return the whole artifact file; with the weights by name another training can start from it.

    Parameters
    ----------
    scripted : ScriptModule       a GridClosure or PointwiseClosure through `script_module`; it is given its `facts`
                                  and `golden` vectors
    metadata : ArtifactMetadata
    golden_inputs : sequence of Tensor    one for each of `metadata.inputs`
    golden_output : Tensor        what the network returns for them
    weights : dict, optional

    Raises
    ------
    ModelRefusedError    if it uses an operator that hosts refuse (tests/unit/export/test_pointwise.py)

    Notes
    -----
    It is written to memory first because torch names the archive's folder after the file; under a temporary name the
    same network would give other bytes each time. Same weights, same constants (tests/unit/export/test_stage.py).
    """
    scripted.facts = metadata.facts()
    scripted.golden = [tensor.detach().clone().contiguous() for tensor in (*golden_inputs, golden_output)]
    extra_files = {METADATA_ENTRY: metadata.to_json()}
    if weights is not None:
        extra_files[WEIGHTS_ENTRY] = safetensors.torch.save(weights)
    buffer = io.BytesIO()
    with quiet_torchscript():
        torch.jit.save(scripted, buffer, _extra_files=extra_files)
    content = pack(buffer.getvalue())
    try:
        check_archive(content, metadata.name)
    except ModelRefusedError as error:
        raise ModelRefusedError(
            f"hosts would refuse the file: {error}; write the closure with other operators, of those in "
            "hpcsurrogate/embed/native/operators.txt"
        ) from None
    return content


def write_artifact(path: Path, content: bytes, metadata: ArtifactMetadata | None = None) -> None:
    """Write the file and the checksum beside it; and its card, `model.md` beside `model.pt`, if metadata are given.

    Notes
    -----
    The old checksum goes first: killed in between, the run has a model without a checksum, which every host refuses.
    """
    manifest = manifest_path(path)
    manifest.unlink(missing_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    if metadata is not None:
        write_text_atomic(path.with_suffix(".md"), card(metadata, sha256, path.name))
    write_text_atomic(manifest, f"{sha256}  {path.name}\n")
