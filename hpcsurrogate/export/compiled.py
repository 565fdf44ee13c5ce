"""The exported module compiled ahead of time for one kind of processor: torch.export and AOTInductor.

All three of its methods are one compiled function, told apart by an argument, so that the compiler runs once.
"""

import io
import os
import platform
import shlex
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch._inductor.config as inductor
from torch import Tensor, nn
from torch.utils import cpp_extension

from hpcsurrogate.core.errors import ConfigError, ModelRefusedError
from hpcsurrogate.core.metadata import ArtifactMetadata
from hpcsurrogate.embed.compiled import (
    FACTS_ENTRY,
    FORWARD,
    GOLDEN_ENTRY,
    GUARDED,
    METADATA_ENTRY,
    MODEL_NAME,
    SMALLEST_GRID,
    TARGET_ENTRY,
    Target,
)
from hpcsurrogate.export.grid_closure import GridClosure
from hpcsurrogate.export.pointwise_closure import PointwiseClosure

# Processors from 2013 (Intel) and 2015 (AMD) on, rather than those like the exporting one alone.
X86_LEVEL, X86_INSTRUCTIONS, X86_BITS = "x86-64-v3", "AVX2", 256

_OPTIONS = {
    "aot_inductor.package": True,
    "aot_inductor.enable_frame_pointer": False,
    "aot_inductor.enable_line_tables": False,
    "aot_inductor.precompile_headers": False,  # pays from the second compilation on, which there is not
    "cpp.threads": 1,  # the host's ranks fill the cores
    "layout_optimization": False,  # channels last takes half as long again with the few channels of a closure
}


def require_compiler() -> None:
    """Make sure that a closure can be compiled here, before anything is written.

    Raises
    ------
    ConfigError    if there is no C++ compiler, or torch is too old (tests/unit/export/test_compiled.py)
    """
    if not hasattr(inductor.cpp, "march"):
        raise ConfigError(
            f"export.formats: torch {torch.__version__} compiles pt2 for its own processor alone; "
            "update torch or leave pt2 out"
        )
    compiler = os.environ.get("CXX", "g++").split()[0]
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"export.formats: pt2 needs a C++ compiler and '{compiler}' is not there; install g++, name another in "
            "the environment variable CXX, or leave pt2 out"
        )


def compiled_bytes(
    closure: GridClosure | PointwiseClosure,
    metadata: ArtifactMetadata,
    golden_inputs: Sequence[Tensor],
    golden_output: Tensor,
) -> bytes:
    """Compile a closure and return the whole `.pt2` file, with its metadata and golden vectors.

    Parameters
    ----------
    closure : GridClosure or PointwiseClosure    in the type of `metadata.dtype`, as `script_module` takes it
    metadata : ArtifactMetadata
    golden_inputs : sequence of Tensor           one for each of `metadata.inputs`
    golden_output : Tensor                       what the network returns for them

    Raises
    ------
    ConfigError          without a C++ compiler
    ModelRefusedError    if torch.export cannot express the module, or the compiler fails

    Notes
    -----
    Runs on any x86 processor with AVX2; elsewhere on processors like the one it was made on. Batch, grid and number of
    cells are free (tests/hosts/test_parity.py).
    """
    require_compiler()
    golden = [tensor.detach().contiguous() for tensor in (*golden_inputs, golden_output)]
    target, options = _target()
    try:
        with _quiet(), torch.no_grad(), _quoted_libraries(), _own_cache() as folder:
            program = _export(closure, golden[0])
            module, (arguments, keywords) = program.module(check_guards=False), program.example_inputs
            files = torch._inductor.aot_compile(module, arguments, keywords, options=options)
            library, description = _of_kind(files, ".wrapper.so"), _of_kind(files, ".wrapper_metadata.json")
            library = _without_folders(library, folder, str(Path(torch.__file__).parent))
    except Exception as error:  # inductor lets errors of all its parts through, and those of the compiler
        reason = str(error).strip().splitlines()[0]
        raise ModelRefusedError(
            f"{type(closure).__name__}: AOTInductor cannot compile it ({reason}); leave pt2 out of export.formats"
        ) from error
    facts = "".join(f"{key}\t{value}\n" for key, value in metadata.facts().items())
    table = "".join(" ".join([str(t.dtype)[6:], *map(str, t.shape)]) + "\n" for t in golden)
    entries = {
        f"data/aotinductor/{MODEL_NAME}/closure.wrapper.so": library,
        f"data/aotinductor/{MODEL_NAME}/closure.wrapper_metadata.json": description,
        METADATA_ENTRY: metadata.to_json().encode(),
        FACTS_ENTRY: facts.encode(),
        GOLDEN_ENTRY: table.encode(),
        TARGET_ENTRY: " ".join(target).encode(),
    } | {f"extra/golden_{number}": tensor.numpy().tobytes() for number, tensor in enumerate(golden)}
    return _archive(entries)


class _Tasks(nn.Module):
    """All methods of a closure as one function without a branch in Python; what depends on data is `torch.cond`."""

    def __init__(self, closure: GridClosure | PointwiseClosure):
        super().__init__()
        self.closure = closure

    def forward(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        """Output and counts of inputs, task (int64 scalar, of embed/compiled.py) and halo (int64 scalar)."""
        return torch.cond(arguments[-2] == FORWARD, self._network, self._others, arguments)

    def _network(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        return self.closure(*arguments[:-2]).clone(), _no_cells()

    def _others(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cond(arguments[-2] == GUARDED, self._guarded, self._classical, arguments)

    def _classical(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        return self.closure.classical(*arguments[:-2]).clone(), _no_cells()

    def _guarded(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        *inputs, _, halo = arguments
        if isinstance(self.closure, PointwiseClosure):
            inside = self.closure.within_range(*inputs)
            stress = self.closure(*self.closure.harmless(*inputs, inside))
            stress, cells = self.closure.with_fallback(*inputs, inside, stress)
            return stress.clone(), cells.sum(1)
        (velocity,) = inputs
        inside = self._inside(velocity, halo)
        output = self.closure(self.closure.harmless(velocity, inside))
        sound = inside.all() & torch.isfinite(output.sum())
        return torch.cond(sound, self._as_it_is, self._with_fallback, (velocity, inside, output, halo))

    def _inside(self, velocity: Tensor, halo: Tensor) -> Tensor:
        inside = self.closure.within_range(velocity, 0)
        # The outermost cells of a block have no neighbours to be judged by.
        one = halo.clamp_max(1)
        return inside | ~_inner_cells(inside, 1, one)

    def _as_it_is(self, velocity: Tensor, inside: Tensor, output: Tensor, halo: Tensor) -> tuple[Tensor, Tensor]:
        return output.clone(), _no_cells()

    def _with_fallback(self, velocity: Tensor, inside: Tensor, output: Tensor, halo: Tensor) -> tuple[Tensor, Tensor]:
        output, cells = self.closure.with_fallback(velocity, inside, output)
        return output.clone(), (cells & _inner_cells(cells, 2, halo)).flatten(1).sum(1)


def _no_cells() -> Tensor:
    return torch.zeros(3, dtype=torch.int64)


def _inner_cells(cells: Tensor, first: int, halo: Tensor) -> Tensor:
    """Which cells lie at least `halo` inside, along every axis from `first` on."""
    inner = _inner(cells, first, halo)
    for axis in range(first + 1, cells.ndim):
        inner = inner & _inner(cells, axis, halo)
    return inner


def _inner(cells: Tensor, axis: int, halo: Tensor) -> Tensor:
    """Which indices of an axis lie at least `halo` inside, in a shape that `cells` broadcast with."""
    size = cells.shape[axis]
    index = torch.arange(size)
    shape = [1] * cells.ndim
    shape[axis] = size
    return ((index >= halo) & (index < size - halo)).reshape(shape)


def _export(closure: GridClosure | PointwiseClosure, example: Tensor) -> torch.export.ExportedProgram:
    scalars = (torch.tensor(FORWARD), torch.tensor(0))
    if isinstance(closure, PointwiseClosure):
        cells = torch.export.Dim("cells", min=1)
        inputs = (example.new_ones(6, example.shape[1]), example.new_ones(6))
        sizes = ({0: cells}, {0: cells}, None, None)
    else:
        names = "xyz"[: example.ndim - 2]
        axes = {axis: torch.export.Dim(f"n{name}", min=SMALLEST_GRID) for axis, name in enumerate(names, 2)}
        # Of different sizes, so that none is taken for another.
        inputs = (example.new_ones(2, example.shape[1], *((axis + 2) * SMALLEST_GRID for axis in axes)),)
        sizes = ({0: torch.export.Dim("batch", min=1), **axes}, None, None)
    program = torch.export.export(_Tasks(closure), (*inputs, *scalars), dynamic_shapes=(sizes,))
    return program.run_decompositions({torch.ops.aten.pad.default: _pad, torch.ops.aten.roll.default: _roll})


# Periodic shifts as concatenations, which compile to plain copies. Inductor's own forms index modulo the grid size
# point by point, again in each operation that is fused with them: slower, and slow to compile.


def _pad(field: Tensor, widths: list[int], mode: str = "constant", value: float | None = None) -> Tensor:
    if mode != "circular":
        return NotImplemented
    for number in range(len(widths) // 2):
        axis = field.ndim - 1 - number
        before, after = widths[2 * number], widths[2 * number + 1]
        size = field.shape[axis]
        parts = (field.narrow(axis, size - before, before), field, field.narrow(axis, 0, after))
        field = torch.cat(parts, dim=axis)
    return field


def _roll(field: Tensor, shifts: list[int], dims: Sequence[int] = ()) -> Tensor:
    for shift, axis in zip(shifts, dims, strict=True):
        size = field.shape[axis]
        start = -shift if shift < 0 else size - shift
        field = torch.cat((field.narrow(axis, start, size - start), field.narrow(axis, 0, start)), dim=axis)
    return field


def _target() -> tuple[Target, dict[str, object]]:
    machine = platform.machine()
    if machine != "x86_64":
        return Target(machine, "any"), dict(_OPTIONS)
    return Target(machine, X86_INSTRUCTIONS), _OPTIONS | {"cpp.march": X86_LEVEL, "cpp.simdlen": X86_BITS}


@contextmanager
def _own_cache() -> Iterator[str]:
    """A folder for what the compiler leaves behind, removed afterwards; ranks or runs never share one."""
    from torch._inductor.utils import fresh_cache

    with tempfile.TemporaryDirectory(prefix="hpcsurrogate-") as folder, fresh_cache(dir=folder):
        yield folder


@contextmanager
def _quoted_libraries() -> Iterator[None]:
    """Let torch's own folder have a space in its path: inductor quotes that of the headers, not that of libraries."""
    folder = cpp_extension.TORCH_LIB_PATH
    cpp_extension.TORCH_LIB_PATH = shlex.quote(folder)
    try:
        yield
    finally:
        cpp_extension.TORCH_LIB_PATH = folder


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back notices of torch's export to its own developers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _of_kind(files: Sequence[object], ending: str) -> bytes:
    """The one file with that ending; the sources beside it would carry paths of this machine to all others."""
    (path,) = (file for file in files if isinstance(file, str) and file.endswith(ending))
    return Path(path).read_bytes()


def _without_folders(library: bytes, *folders: str) -> bytes:
    """Blank the folders of this machine that its sources have left in the library's own error messages."""
    for folder in map(os.fsencode, folders):
        library = library.replace(folder, b"." * len(folder))
    return library


def _archive(entries: dict[str, bytes]) -> bytes:
    from torch.export.pt2_archive._package import PT2ArchiveWriter

    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        for name, entry in entries.items():
            writer.write_bytes(name, entry)
    return buffer.getvalue()
