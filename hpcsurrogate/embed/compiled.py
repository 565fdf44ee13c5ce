"""Load a closure that was compiled for one kind of processor, a `.pt2` package of torch's AOTInductor.

Such a file holds native code: nothing in it can be checked before it runs, so it is loaded on request alone.
"""

import io
import platform
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hpcsurrogate.core.errors import ModelRefusedError, ShapeError

METADATA_ENTRY = "extra/hpcsurrogate.json"
FACTS_ENTRY = "extra/facts.txt"
GOLDEN_ENTRY = "extra/golden.txt"
TARGET_ENTRY = "extra/target.txt"
MODEL_NAME = "model"

# What the one compiled function does, told by its argument `task`.
FORWARD, GUARDED, CLASSICAL = 0, 1, 2

# Compiled code trusts the sizes it is given; it was made for grids of at least so many cells along each axis.
SMALLEST_GRID = 8
# Threads that compute at the same moment; more of them wait for each other.
SIMULTANEOUS_CALLS = 8


class Target(NamedTuple):
    """The machine that the code was compiled for."""

    machine: str
    """As `platform.machine()` names it, such as x86_64."""
    instructions: str
    """`AVX2` or `any`: what the processor must have beside the least of its family."""


class CompiledClosure(nn.Module):
    """The compiled form of `GridClosure` or `PointwiseClosure`, with the same methods.

    Parameters
    ----------
    package : Path    the `.pt2` file; not needed any more once this is made
    facts : dict      `ArtifactMetadata.facts()`
    golden : list of Tensor    the inputs, then the output

    Notes
    -----
    Same results as the TorchScript form to round-off (tests/hosts/test_parity.py). Threads may share it.
    """

    def __init__(self, package: Path, facts: dict[str, str], golden: list[Tensor]):
        super().__init__()
        # torch's own wrapper of this class warns wherever the processor has more than the code asks for.
        self._loader = torch._C._aoti.AOTIModelPackageLoader(str(package), MODEL_NAME, False, SIMULTANEOUS_CALLS, -1)
        self.facts, self.golden = facts, golden

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return what the network says alone; inputs and result as those of the form that was compiled."""
        return self._run(inputs, FORWARD, 0)[0]

    def guarded(self, *arguments: Tensor | int) -> tuple[Tensor, Tensor]:
        """Return guarded output and int64 counts (3,); of the kind `grid`, `halo` may follow the input."""
        num_inputs = len(self.golden) - 1
        halo = arguments[num_inputs] if len(arguments) > num_inputs else 0
        return self._run(arguments[:num_inputs], GUARDED, halo)

    def classical(self, *inputs: Tensor) -> Tensor:
        """Return what the classical closure says alone."""
        return self._run(inputs, CLASSICAL, 0)[0]

    def _run(self, inputs: tuple[Tensor, ...], task: int, halo: int) -> tuple[Tensor, Tensor]:
        inputs = tuple(_as_compiled_for(array, golden) for array, golden in zip(inputs, self.golden[:-1], strict=True))
        if inputs[0].numel() == 0:
            return self.golden[-1].new_empty((0, *self.golden[-1].shape[1:])), torch.zeros(3, dtype=torch.int64)
        output, counts = self._loader.boxed_run([*inputs, torch.tensor(task), torch.tensor(halo)])
        return output, counts


def unpack(content: bytes, path: str | Path) -> tuple[CompiledClosure, str]:
    """Load the native code of a package.

    Parameters
    ----------
    content : bytes      of the whole file, whose checksum has been checked
    path : str or Path   for messages

    Returns
    -------
    CompiledClosure
    str    the text of hpcsurrogate.json

    Raises
    ------
    ModelRefusedError    if the file is no such package, or made for another kind of processor
                         (tests/unit/export/test_compiled.py)

    Notes
    -----
    The code is mapped from a private copy of `content`: what was checked is what runs.
    """
    try:
        reader = torch._C.PyTorchFileReader(io.BytesIO(content))
        metadata, facts, golden_table, target = (
            reader.get_record(entry).decode() for entry in (METADATA_ENTRY, FACTS_ENTRY, GOLDEN_ENTRY, TARGET_ENTRY)
        )
        _require_target(Target(*target.split()), path)
        golden = [_golden(reader, number, line) for number, line in enumerate(golden_table.splitlines())]
        with tempfile.TemporaryDirectory(prefix="hpcsurrogate-") as folder:
            package = Path(folder) / "model.pt2"
            package.write_bytes(content)
            return CompiledClosure(package, _read_facts(facts), golden), metadata
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelRefusedError(f"{path}: torch cannot load it ({reason}); export the model again") from None


def _read_facts(text: str) -> dict[str, str]:
    facts = {}
    for line in text.splitlines():
        key, _, value = line.partition("\t")
        facts[key] = value
    return facts


def _golden(reader: object, number: int, line: str) -> Tensor:
    """Read a golden vector; its line names type and shape, such as `float32 1 2 64 64`."""
    dtype, *shape = line.split()
    values = bytearray(reader.get_record(f"extra/golden_{number}"))
    return torch.frombuffer(values, dtype=getattr(torch, dtype)).reshape([int(size) for size in shape])


def _require_target(target: Target, path: str | Path) -> None:
    machine = platform.machine()
    has_instructions = target.instructions == "any" or "AVX" in torch.backends.cpu.get_cpu_capability()
    if target.machine != machine or not has_instructions:
        raise ModelRefusedError(
            f"{path}: is compiled for {target.machine} processors with {target.instructions} instructions, this one is "
            f"{machine} with {torch.backends.cpu.get_cpu_capability()}; take the .pt file, which runs on all"
        )


def _as_compiled_for(array: Tensor, golden: Tensor) -> Tensor:
    """Refuse what the compiled code, which checks nothing, would misread."""
    if array.dtype != golden.dtype or array.shape[1:2] != golden.shape[1:2] or array.device.type != "cpu":
        raise ShapeError(
            f"the compiled closure takes {golden.dtype} of shape (*, {', '.join(map(str, golden.shape[1:2]))}, ...) on "
            f"the CPU, got {array.dtype} of shape {tuple(array.shape)} on {array.device}"
        )
    if array.numel() > 0 and any(size < SMALLEST_GRID for size in array.shape[2:]):
        raise ShapeError(
            f"the compiled closure takes grids of at least {SMALLEST_GRID} cells along each axis, got "
            f"{tuple(array.shape[2:])}; take the .pt file"
        )
    return array.contiguous()
