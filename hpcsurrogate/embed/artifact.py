"""Load an exported closure and call it. A solver that does so needs this room, core and torch, nothing else.

Legend: b batch, n cell, c component, x, y and z the grid axes, d = 2 or 3 of them.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from hpcsurrogate.core.errors import DataError, ModelRefusedError, ShapeError
from hpcsurrogate.core.metadata import ArtifactMetadata, FieldPort
from hpcsurrogate.embed.archive import EXTRA, METADATA_ENTRY, WEIGHTS_ENTRY, check_archive
from hpcsurrogate.embed.compiled import unpack
from hpcsurrogate.embed.torchscript import quiet_torchscript

# Largest |output - golden output| over the largest |golden output|. Another processor sums a convolution in another
# order, which moves a float32 result by about 1e-6. A CUDA device may round the factors to TF32 (10 bits of mantissa).
GOLDEN_TOLERANCE = 1e-5
GOLDEN_TOLERANCE_FLOAT64 = 1e-12
GOLDEN_TOLERANCE_CUDA = 1e-2


class FallbackCounts(NamedTuple):
    """Cells that got the classical closure in one call, by the reason; no cell counts twice."""

    outside: int
    """The input is above the range seen in training."""
    not_finite: int
    """A value that is not finite stood where the network would have looked."""
    failed: int
    """The network's output was not finite."""


@dataclass(frozen=True)
class Artifact:
    """A closure from a file: of kind `grid`, `artifact(velocity)` is the acceleration of the unresolved scales, which
    the host adds to its momentum equation; of kind `pointwise`, `artifact(velocity_gradient, filter_width)` is the SGS
    stress of each cell; the law of a material, `artifact(density, temperature, velocity_gradient)`, the stress of each
    cell and its standard deviation, side by side: `split` takes them apart; a body force or a Reynolds stress takes the
    inputs that `metadata` names.

    Attributes
    ----------
    path : Path                    the file it came from
    module : Module                the network with its guard, on the device
    metadata : ArtifactMetadata    what the file says about itself
    golden_inputs : tuple of Tensor    real filtered fields or cells, one for each of `metadata.inputs`
    golden_output : Tensor             what the network returned for them when it was exported
    weights : dict of str to Tensor    the network's, by name, which freezing does not keep; on the CPU. Empty if the
                                       file was written without them
    """

    path: Path
    module: torch.nn.Module
    metadata: ArtifactMetadata
    golden_inputs: tuple[Tensor, ...]
    golden_output: Tensor
    weights: dict[str, Tensor]

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return what the network says, whatever the input.

        Parameters
        ----------
        *inputs : Tensor    one for each of `metadata.inputs`, in the dtype of `metadata`. Kind `grid`: velocity, shape
                            (b, d, nx, ny[, nz]) [m/s], periodic, in the layout and spacing of `metadata`. Kind
                            `pointwise`: velocity gradient, shape (n, d*d) row by row [1/s], and filter width, shape
                            (n,) [m]

        Returns
        -------
        Tensor    acceleration at the velocity's own points, shape (b, d, nx, ny[, nz]) [m/s^2]; or deviatoric SGS
                  stress, shape (n, d(d+1)/2) [m^2/s^2]

        Raises
        ------
        ShapeError    if the number of inputs, of axes, of components or the dtype is another
                      (tests/unit/embed/test_artifact.py)
        """
        self._check(inputs)
        return self.module(*inputs)

    def guarded(self, *inputs: Tensor, halo: int = 0) -> tuple[Tensor, FallbackCounts]:
        """Return what the network says, and what the classical closure says where the network must not be asked.

        Parameters
        ----------
        *inputs : Tensor    as in a call
        halo : int          kind `grid`: cells of its surroundings around a block of a larger field, which are not
                            counted; at least `metadata.halo`, and of the result use what is inside. 0: a periodic field

        Returns
        -------
        Tensor            as in a call, and always finite; the same bits if the input is within the trained range
        FallbackCounts    how many cells got the classical closure

        Raises
        ------
        ShapeError    as in a call (tests/unit/export/test_grid_closure.py, test_pointwise_closure.py)
        """
        self._check(inputs)
        output, counts = self.module.guarded(*inputs, halo) if halo else self.module.guarded(*inputs)
        return output, FallbackCounts(*counts.tolist())

    @property
    def has_advection(self) -> bool:
        """Whether the file has `advection_hat`."""
        return hasattr(self.module, "advection_hat")

    def advection_hat(self, velocity_hat: Tensor, last: int, stage: int) -> Tensor:
        """Return what a call does and the host's own -div(u u) in one, for a host with FFTs that leaves its own out.

        Parameters
        ----------
        velocity_hat : Tensor, shape (b, d, nx[, ny], last // 2 + 1), complex    `rfftn` of the velocity, not scaled
        last : int                                                               points along the last axis
        stage : int                                                              of the host's step: even, or odd

        Returns
        -------
        Tensor, shape of the velocity, complex    `rfftn` of the acceleration, not projected. The mean of an even and an
                                                  odd stage is the sum that it stands for

        Raises
        ------
        ModelRefusedError    if the file does not have it: its closure is an addition to the host's fluxes
                             (tests/unit/export/test_networks_fourier.py)
        """
        if not self.has_advection:
            raise ModelRefusedError(f"{self.path}: has no `advection_hat`; add what it returns to your own fluxes")
        return self.module.advection_hat(velocity_hat, last, stage)

    def split(self, output: Tensor) -> dict[str, Tensor]:
        """Return what a call returned as its fields: of several outputs, the columns (n, c) of each."""
        return split_outputs(output, self.metadata)

    def classical(self, *inputs: Tensor) -> Tensor:
        """Return what the classical closure of `metadata.fallback` says; inputs, result and errors as in a call."""
        self._check(inputs)
        return self.module.classical(*inputs)

    def _check(self, inputs: tuple[Tensor, ...]) -> None:
        ports = self.metadata.inputs
        if len(inputs) != len(ports):
            names = ", ".join(port.field for port in ports)
            raise ShapeError(f"{self.path.name}: takes {len(ports)} arrays ({names}), got {len(inputs)}")
        dtype = self.golden_output.dtype
        for array, port in zip(inputs, ports, strict=True):
            if not _fits(array, port):
                raise ShapeError(
                    f"{self.path.name}: expects {port.field} of shape {_expected_shape(port)}, got "
                    f"{tuple(array.shape)}; bring its axes into this order"
                )
            if array.dtype != dtype:
                raise ShapeError(
                    f"{self.path.name}: expects {port.field} in {self.metadata.dtype}, got {array.dtype}; "
                    "convert it first"
                )
            if port.axes == "nc" and len(array) != len(inputs[0]):
                raise ShapeError(
                    f"{self.path.name}: {port.field} has {len(array)} cells, {ports[0].field} has {len(inputs[0])}"
                )


def split_outputs(output: Tensor, metadata: ArtifactMetadata) -> dict[str, Tensor]:
    """Return views of the components of each output, which stand side by side, by the name of its field."""
    widths = [len(port.components) for port in metadata.outputs]
    parts = output.split(widths, 1) if len(widths) > 1 else (output,)
    return {port.field: part for port, part in zip(metadata.outputs, parts, strict=True)}


def manifest_path(path: str | Path) -> Path:
    """Return the name of the checksum file beside an artifact: `model.pt.sha256`, as `sha256sum -c` reads it."""
    path = Path(path)
    return path.with_name(path.name + ".sha256")


def load_artifact(path: str | Path, device: str | torch.device = "cpu", allow_compiled: bool = False) -> Artifact:
    """Load an artifact after checking that it is what was exported.

    In this order: its SHA-256 against the manifest beside it; what it holds, before torch sees it (archive.py); its
    metadata; and its golden vectors, which the loaded network must reproduce on `device`.

    Parameters
    ----------
    path : str or Path       the `.pt` file; `<path>.sha256` must lie beside it
    device : str or device   where the network runs
    allow_compiled : bool    take a `.pt2` file too. It is native code, which nobody can check before it runs with all
                             the rights of this process; it runs on the CPU

    Raises
    ------
    DataError            if the file is missing
    ModelRefusedError    if any check fails (tests/unit/embed/test_artifact.py)
    """
    path = Path(path)
    if path.suffix == ".pt2":
        return _load_compiled(path, device, allow_compiled)
    content = read_checked(path)
    entries = check_archive(content, path)
    with errors_of_torch(path, "load"), quiet_torchscript():
        module = torch.jit.load(io.BytesIO(content), map_location=device)
    metadata = metadata_of(entries, path)
    golden = _read_golden(module, metadata, path)
    weights = _read_weights(entries.get(EXTRA + WEIGHTS_ENTRY, b""), path)
    artifact = Artifact(path, module, metadata, tuple(golden[:-1]), golden[-1], weights)
    check_golden(artifact)
    return artifact


def _load_compiled(path: Path, device: str | torch.device, allowed: bool) -> Artifact:
    if not allowed:
        raise ModelRefusedError(
            f"{path}: is native code, which runs with all the rights of the host; load it with allow_compiled if you "
            "trust where it comes from, or take the .pt file"
        )
    if torch.device(device).type != "cpu":
        raise ModelRefusedError(f"{path}: is compiled for a CPU; take the .pt file, which runs on other devices too")
    module, text = unpack(read_checked(path), path)
    metadata = metadata_of({EXTRA + METADATA_ENTRY: text.encode()}, path)
    golden = _read_golden(module, metadata, path)
    artifact = Artifact(path, module, metadata, tuple(golden[:-1]), golden[-1], {})
    check_golden(artifact)
    return artifact


@contextmanager
def errors_of_torch(path: Path, task: str) -> Iterator[None]:
    """A block whose errors, whatever the file makes torch raise, are a reason to refuse it; `task`: "load" or "run"."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (torch.jit.Error, RuntimeError, ValueError, TypeError, LookupError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        # Of an error while it runs, torch gives where it was in the code first.
        reason = lines[-1 if task == "run" else 0].strip()
        raise ModelRefusedError(f"{path}: torch cannot {task} it ({reason}); export the model again") from None


def check_golden(artifact: Artifact) -> float:
    """Return the largest difference from the golden output over its largest value [-], the worst of its fields.

    Raises
    ------
    ModelRefusedError    if the difference is not a number or above `GOLDEN_TOLERANCE`, `GOLDEN_TOLERANCE_FLOAT64` in
                         float64, `GOLDEN_TOLERANCE_CUDA` on CUDA; or if its guard does not answer as a guard does
    """
    expected = artifact.golden_output
    with torch.no_grad(), errors_of_torch(artifact.path, "run"):
        output = artifact(*artifact.golden_inputs)
        guarded, counts = artifact.module.guarded(*artifact.golden_inputs)
        if (guarded.shape, counts.shape, counts.dtype) != (expected.shape, (3,), torch.int64):
            raise ModelRefusedError(
                f"{artifact.path}: its guard returns no output with three counts; export the model again"
            )
        if output.shape != expected.shape:
            raise ModelRefusedError(
                f"{artifact.path}: returns shape {tuple(output.shape)} for its golden inputs, not "
                f"{tuple(expected.shape)}; export the model again"
            )
        of_fields = (artifact.split(values).values() for values in (output, expected))
        # torch's maximum is NaN if one is.
        difference = float(torch.tensor([relative_difference(a, b) for a, b in zip(*of_fields, strict=True)]).max())
    tolerance = GOLDEN_TOLERANCE_FLOAT64 if expected.dtype == torch.float64 else GOLDEN_TOLERANCE
    if expected.is_cuda:
        tolerance = GOLDEN_TOLERANCE_CUDA
    if not difference <= tolerance:
        raise ModelRefusedError(
            f"{artifact.path}: does not reproduce its golden output (relative difference {difference:.2e}, "
            f"allowed {tolerance:.0e}); export the model again"
        )
    return difference


def relative_difference(output: Tensor, expected: Tensor) -> float:
    """Return the largest |difference| over the largest |expected|, in float64 [-]; NaN if any value is."""
    expected = expected.double()
    return float((output.double() - expected).abs().max() / expected.abs().max())


def metadata_of(entries: dict[str, bytes], origin: object) -> ArtifactMetadata:
    """Return what a file says about itself, from the entries that `check_archive` returned.

    Raises
    ------
    ModelRefusedError    if it is missing or of another schema, or holds letters that would move the cursor of a
                         terminal (tests/unit/embed/test_card.py)
    """
    text = entries.get(EXTRA + METADATA_ENTRY, b"").decode("utf-8", errors="replace")
    metadata = ArtifactMetadata.from_json(text, str(origin))
    if not all(map(str.isprintable, _texts(metadata.model_dump()))):
        raise ModelRefusedError(f"{origin}: {METADATA_ENTRY} holds letters that do not print; do not use this file")
    return metadata


def _texts(tree: object) -> Iterator[str]:
    """All texts of a tree, keys among them."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield key
            yield from _texts(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from _texts(value)


def read_checked(path: Path) -> bytes:
    """Read a file once, so that what is checked is what is loaded, and hold it against the checksum beside it.

    Raises
    ------
    DataError            if the file is missing, or it or its checksum cannot be read
    ModelRefusedError    if the checksum is missing or another (tests/unit/embed/test_artifact.py)
    """
    content = _read(path)
    if content is None:
        raise DataError(f"{path}: file is missing; write it with `hpcsurrogate export`")
    manifest = manifest_path(path)
    checksum = _read(manifest)
    if checksum is None:
        raise ModelRefusedError(
            f"{path}: the checksum {manifest.name} is missing beside it; copy it along with the model or export again"
        )
    promised = checksum.decode("ascii", errors="replace").split()
    if not promised or not re.fullmatch(r"[0-9a-f]{64}", promised[0]):
        raise ModelRefusedError(f"{manifest}: holds no SHA-256; copy it again or export the model again")
    found = hashlib.sha256(content).hexdigest()
    if found != promised[0]:
        raise ModelRefusedError(
            f"{path}: SHA-256 is {found[:12]}..., {manifest.name} promises {promised[0][:12]}...; "
            "the file was changed or damaged: copy it again or export the model again"
        )
    return content


def _read(path: Path) -> bytes | None:
    """The file's content, None if there is no such file."""
    try:
        if path.exists() and not path.is_file():  # of a pipe or a device there may be no end
            raise IsADirectoryError
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        raise DataError(f"{path}: cannot be read; give the path of a file that you may read") from None


def _read_golden(module: torch.jit.ScriptModule, metadata: ArtifactMetadata, path: Path) -> list[Tensor]:
    """The inputs, then the output, from the table that hosts without a parser of JSON read, once this is whole."""
    for name in ("guarded", "classical", "facts", "golden"):
        if not hasattr(module, name):
            raise ModelRefusedError(f"{path}: has no `{name}`; export it with `hpcsurrogate export`")
    if module.facts != metadata.facts():
        differing = sorted(set(module.facts.items()) ^ set(metadata.facts().items()))[0][0]
        raise ModelRefusedError(f"{path}: `facts` and {METADATA_ENTRY} differ ({differing}); export the model again")
    golden = module.golden
    ports = (*metadata.inputs, _side_by_side(metadata.outputs))
    if len(golden) != len(ports):
        raise ModelRefusedError(f"{path}: holds {len(golden)} golden vectors, not {len(ports)}; export the model again")
    for tensor, port in zip(golden, ports, strict=True):
        if str(tensor.dtype) != f"torch.{metadata.dtype}" or not _fits(tensor, port):
            raise ModelRefusedError(
                f"{path}: golden {port.field} is {tensor.dtype} of shape {tuple(tensor.shape)}, the metadata say "
                f"{metadata.dtype} of shape {_expected_shape(port)}; export the model again"
            )
    return golden


def _side_by_side(ports: tuple[FieldPort, ...]) -> FieldPort:
    """The one array in which a network returns its outputs."""
    components = tuple(component for port in ports for component in port.components)
    return ports[0].model_copy(update={"components": components})


def _fits(array: Tensor, port: FieldPort) -> bool:
    if port.axes == "nc" and not port.components:
        return array.ndim == 1
    return array.ndim == len(port.axes) and array.shape[1] == len(port.components)


def _expected_shape(port: FieldPort) -> str:
    if port.axes == "nc":
        return f"(cells, {len(port.components)})" if port.components else "(cells,)"
    sizes = ", ".join(f"n{axis}" for axis in port.axes[2:])
    return f"(batch, {len(port.components)}, {sizes})"


def _read_weights(content: bytes, path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content) if content else {}
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:  # the last three of types that torch lacks
        raise ModelRefusedError(f"{path}: {WEIGHTS_ENTRY} is damaged ({error!r}); export the model again") from None
