"""Load an exported closure and call it. A solver that does so needs this room, core and torch, nothing else.

Legend: b batch, c component (x, y), x and y the grid axes.
"""

import hashlib
import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from hpcsurrogate.core.errors import DataError, ModelRefusedError, ShapeError
from hpcsurrogate.core.metadata import ArtifactMetadata
from hpcsurrogate.embed.torchscript import quiet_torchscript

METADATA_ENTRY = "hpcsurrogate.json"
GOLDEN_ENTRY = "golden.safetensors"
WEIGHTS_ENTRY = "weights.safetensors"

# Largest |output - golden output| over the largest |golden output|. Another processor sums a convolution in another
# order, which moves a float32 result by about 1e-6. A CUDA device may round the factors to TF32 (10 bits of mantissa).
GOLDEN_TOLERANCE = 1e-5
GOLDEN_TOLERANCE_CUDA = 1e-2


@dataclass(frozen=True)
class Artifact:
    """A closure from a file: `artifact(velocity_bcxy)` is the acceleration it adds to the host's momentum equation.

    Attributes
    ----------
    path : Path                    the file it came from
    module : ScriptModule          the network, on `device`
    metadata : ArtifactMetadata    what the file says about itself
    golden_input : Tensor, shape (1, 2, nx, ny) [m/s]       a real filtered flow field
    golden_output : Tensor, shape (1, 2, nx, ny) [m/s^2]    what the network returned for it when it was exported
    weights : dict of str to Tensor    the network's, by name, which freezing does not keep; on the CPU. Empty if the
                                       file was written without them
    """

    path: Path
    module: torch.jit.ScriptModule
    metadata: ArtifactMetadata
    golden_input: Tensor
    golden_output: Tensor
    weights: dict[str, Tensor]

    def __call__(self, velocity_bcxy: Tensor) -> Tensor:
        """Return the acceleration of the unresolved scales at the velocity's own points.

        Parameters
        ----------
        velocity_bcxy : Tensor, shape (b, 2, nx, ny) [m/s]    periodic, in the layout, dtype and spacing of `metadata`

        Returns
        -------
        Tensor, shape (b, 2, nx, ny) [m/s^2]

        Raises
        ------
        ShapeError    if the number of axes, of components or the dtype is another (tests/unit/embed/test_artifact.py)
        """
        if velocity_bcxy.ndim != 4 or velocity_bcxy.shape[1] != len(self.metadata.inputs[0].components):
            raise ShapeError(
                f"{self.path.name}: expects velocity of shape (batch, 2, nx, ny), got {tuple(velocity_bcxy.shape)}; "
                "stack the components on axis 1"
            )
        if velocity_bcxy.dtype != self.golden_input.dtype:
            raise ShapeError(
                f"{self.path.name}: expects {self.metadata.dtype}, got {velocity_bcxy.dtype}; convert it first"
            )
        return self.module(velocity_bcxy)


def manifest_path(path: str | Path) -> Path:
    """Return the name of the checksum file beside an artifact: `model.pt.sha256`, as `sha256sum -c` reads it."""
    path = Path(path)
    return path.with_name(path.name + ".sha256")


def load_artifact(path: str | Path, device: str | torch.device = "cpu") -> Artifact:
    """Load an artifact after checking that it is what was exported.

    In this order: its SHA-256 against the manifest beside it, its code (nothing may run at load), its metadata, and
    its golden vectors, which the loaded network must reproduce on `device`.

    Parameters
    ----------
    path : str or Path       the `.pt` file; `<path>.sha256` must lie beside it
    device : str or device   where the network runs

    Raises
    ------
    DataError            if the file is missing
    ModelRefusedError    if any check fails (tests/unit/embed/test_artifact.py)
    """
    path = Path(path)
    content = _read_checked(path)
    _refuse_code_at_load(content, path)
    extra_files = {METADATA_ENTRY: b"", GOLDEN_ENTRY: b"", WEIGHTS_ENTRY: b""}
    try:
        with quiet_torchscript():
            module = torch.jit.load(io.BytesIO(content), map_location=device, _extra_files=extra_files)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelRefusedError(f"{path}: torch cannot load it ({reason}); export the model again") from None
    metadata = ArtifactMetadata.from_json(extra_files[METADATA_ENTRY].decode("utf-8", errors="replace"), str(path))
    golden_input, golden_output = _read_golden(extra_files[GOLDEN_ENTRY], metadata, path)
    weights = _read_weights(extra_files[WEIGHTS_ENTRY], path)
    artifact = Artifact(path, module, metadata, golden_input.to(device), golden_output.to(device), weights)
    check_golden(artifact)
    return artifact


def check_golden(artifact: Artifact) -> float:
    """Return the largest difference from the golden output over its largest value [-].

    Raises
    ------
    ModelRefusedError    if the difference is above `GOLDEN_TOLERANCE` (`GOLDEN_TOLERANCE_CUDA` on CUDA) or not a number
    """
    expected = artifact.golden_output
    with torch.no_grad():
        output = artifact(artifact.golden_input)
    if output.shape != expected.shape:
        raise ModelRefusedError(
            f"{artifact.path}: returns shape {tuple(output.shape)} for its golden input, not {tuple(expected.shape)}; "
            "export the model again"
        )
    difference = float((output - expected).abs().max() / expected.abs().max())
    tolerance = GOLDEN_TOLERANCE_CUDA if expected.is_cuda else GOLDEN_TOLERANCE
    if not difference <= tolerance:
        raise ModelRefusedError(
            f"{artifact.path}: does not reproduce its golden output (relative difference {difference:.2e}, "
            f"allowed {tolerance:.0e}); export the model again"
        )
    return difference


def _read_checked(path: Path) -> bytes:
    """Read the file once, so that what is checked is what is loaded."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: file is missing; write it with `hpcsurrogate export`") from None
    manifest = manifest_path(path)
    try:
        promised = manifest.read_text(encoding="ascii", errors="replace").split()
    except FileNotFoundError:
        raise ModelRefusedError(
            f"{path}: the checksum {manifest.name} is missing beside it; copy it along with the model or export again"
        ) from None
    if not promised or not re.fullmatch(r"[0-9a-f]{64}", promised[0]):
        raise ModelRefusedError(f"{manifest}: holds no SHA-256; copy it again or export the model again")
    found = hashlib.sha256(content).hexdigest()
    if found != promised[0]:
        raise ModelRefusedError(
            f"{path}: SHA-256 is {found[:12]}..., {manifest.name} promises {promised[0][:12]}...; "
            "the file was changed or damaged: copy it again or export the model again"
        )
    return content


def _refuse_code_at_load(content: bytes, path: Path) -> None:
    """Refuse a scripted `__setstate__`: torch runs it while loading, and it may write files."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sources = {name: archive.read(name) for name in archive.namelist() if name.endswith(".py")}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError) as error:
        raise ModelRefusedError(f"{path}: is no TorchScript archive ({error}); export the model again") from None
    for name, source in sources.items():
        if b"__setstate__" in source:
            raise ModelRefusedError(
                f"{path}: {name} defines __setstate__, code that runs while loading; do not use this file"
            )


def _read_golden(content: bytes, metadata: ArtifactMetadata, path: Path) -> tuple[Tensor, Tensor]:
    if not content:
        raise ModelRefusedError(f"{path}: holds no {GOLDEN_ENTRY}; export it with `hpcsurrogate export`")
    try:
        golden = safetensors.torch.load(content)
        golden_input, golden_output = golden["input"], golden["output"]
    except (SafetensorError, KeyError) as error:
        raise ModelRefusedError(f"{path}: {GOLDEN_ENTRY} is damaged ({error}); export the model again") from None
    for name, tensor in (("input", golden_input), ("output", golden_output)):
        if str(tensor.dtype) != f"torch.{metadata.dtype}":
            raise ModelRefusedError(
                f"{path}: golden {name} is {tensor.dtype}, the metadata says {metadata.dtype}; export the model again"
            )
    return golden_input, golden_output


def _read_weights(content: bytes, path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content) if content else {}
    except SafetensorError as error:
        raise ModelRefusedError(f"{path}: {WEIGHTS_ENTRY} is damaged ({error}); export the model again") from None
