"""Checkpoints: one directory a step, written beside its final name and renamed, each file named with its SHA-256.

    checkpoints/step-00001200/
        weights.safetensors      the module as it is now
        best.safetensors         the module at its best validation so far
        optimizer.safetensors    <parameter>.<name> of the optimizer's state, and torch's RNG state
        state.json               phase, iteration, step, learning rate, early stopping, digest of the configuration
        manifest.json            size and SHA-256 of the four others

A kill at any moment leaves the checkpoints that were there, or those and the new one.
"""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from hpcsurrogate.core.atomic import sha256_file, sync_path
from hpcsurrogate.core.errors import DataError, ModelRefusedError
from hpcsurrogate.core.log import get_logger

log = get_logger("train")

Tensors = dict[str, Tensor]
TENSOR_FILES = ("weights", "best", "optimizer")
STATE, MANIFEST = "state.json", "manifest.json"
_NAME = re.compile(r"step-(\d{8,})")
_PARTIAL = ".partial-"  # prefix of directories that are being written or taken away


@dataclass
class Checkpoint:
    """Everything that a run needs to go on as if it had never stopped."""

    step: int
    weights: Tensors
    best: Tensors
    optimizer: Tensors
    state: dict


class DamagedCheckpoint(Exception):
    """A checkpoint whose files are not those of its manifest. Never leaves this module."""


class CheckpointStore:
    """The checkpoints of one run. Only rank 0 may use it.

    Parameters
    ----------
    directory : Path
    keep : int [-]         how many to keep, the newest
    config_digest : str    of everything that decides what is trained; other checkpoints are refused
    """

    def __init__(self, directory: Path, keep: int, config_digest: str) -> None:
        self.directory, self.keep, self.config_digest = directory, keep, config_digest

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, replacing one of the same step, then delete the oldest beyond `keep`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for remains in self.directory.glob(f"{_PARTIAL}*"):
            shutil.rmtree(remains)
        final = self.directory / f"step-{checkpoint.step:08d}"
        partial = self.directory / f"{_PARTIAL}{final.name}"
        partial.mkdir()
        self._write_files(partial, checkpoint)
        if final.exists():
            os.rename(final, self.directory / f"{_PARTIAL}replaced-{final.name}")
        os.rename(partial, final)
        sync_path(self.directory)
        self._delete_old(checkpoint.step)
        return final

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; damaged ones are named in a warning and passed over.

        Raises
        ------
        ModelRefusedError    if the newest whole checkpoint belongs to another configuration
        """
        for _, path in reversed(self._steps()):
            try:
                checkpoint = _read(path)
            except DamagedCheckpoint as damage:
                log.warning("checkpoint %s is damaged (%s); trying the one before it", path, damage)
                continue
            if checkpoint.state["config_digest"] != self.config_digest:
                raise ModelRefusedError(
                    f"{path} was trained with another flow, host, prepare or train section, seed or data; "
                    f"remove {self.directory} to train anew, or change run_dir"
                )
            return checkpoint
        return None

    def _write_files(self, directory: Path, checkpoint: Checkpoint) -> None:
        state = checkpoint.state | {"step": checkpoint.step, "config_digest": self.config_digest}
        contents = {f"{name}.safetensors": serialize(getattr(checkpoint, name)) for name in TENSOR_FILES}
        contents[STATE] = _json_bytes(state)
        for name, content in contents.items():
            _write_synced(directory / name, content)
        files = {
            name: {"bytes": len(content), "sha256": sha256_file(directory / name)} for name, content in contents.items()
        }
        _write_synced(directory / MANIFEST, _json_bytes({"schema_version": 1, "files": files}))
        sync_path(directory)

    def _steps(self) -> list[tuple[int, Path]]:
        if not self.directory.is_dir():
            return []
        matches = [(_NAME.fullmatch(path.name), path) for path in self.directory.iterdir()]
        return sorted((int(match[1]), path) for match, path in matches if match)

    def _delete_old(self, newest_step: int) -> None:
        """Later steps than the one just written are damaged ones that were passed over: they take nobody's place."""
        older = [path for step, path in self._steps() if step <= newest_step]
        for path in older[: -self.keep]:
            shutil.rmtree(path)
        for remains in self.directory.glob(f"{_PARTIAL}*"):
            shutil.rmtree(remains)


def serialize(tensors: Tensors, metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file as bytes, the same for the same content.

    The library writes its metadata in an order that changes from process to process; here the header is sorted.
    """
    data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the format aligns the data to 8 bytes
    return len(header).to_bytes(8, "little") + header + data[end:]


def _read(path: Path) -> Checkpoint:
    """Check every file against the manifest, then load it."""
    try:
        files = json.loads((path / MANIFEST).read_bytes())["files"]
        for name in (STATE, *(f"{name}.safetensors" for name in TENSOR_FILES)):
            if sha256_file(path / name) != files[name]["sha256"]:
                raise DamagedCheckpoint(f"{name} has another SHA-256 than {MANIFEST} says")
        state = json.loads((path / STATE).read_bytes())
        tensors = {name: safetensors.torch.load_file(path / f"{name}.safetensors") for name in TENSOR_FILES}
    except (DataError, OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DamagedCheckpoint(f"{type(error).__name__}: {error}") from error
    return Checkpoint(step=state["step"], state=state, **tensors)


def _json_bytes(content: dict) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()


def _write_synced(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
