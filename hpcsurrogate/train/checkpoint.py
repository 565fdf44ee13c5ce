"""Checkpoints: one folder a step, copied at once, written beside the training and published whole.

    checkpoints/step-00001200/
        weights.safetensors      the module as it is now
        best.safetensors         the module at its best validation so far
        optimizer.safetensors    <parameter>.<name> of the optimizer's state
        average.safetensors      the moving average of the weights; no tensors if none is kept
        state.json               phase, iteration, early stopping, ...: what the training hands over
        manifest.json            step, digest of the configuration, sizes and checksums: checkpoint_files.py

A kill at any moment leaves the checkpoints that were there, or those and the new one.
"""

import json
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.train.checkpoint_files import (
    PARTIAL,
    REPLACED,
    DamagedCheckpoint,
    json_bytes,
    publish_folder,
    read_folder,
    remove_folder,
)

log = get_logger("train")

Tensors = dict[str, Tensor]
TENSOR_PARTS = ("weights", "best", "optimizer", "average")
STATE = "state.json"
FILES = (*(f"{part}.safetensors" for part in TENSOR_PARTS), STATE)
_NAME = re.compile(rf"({re.escape(REPLACED)})?step-(\d{{8,}})")


@dataclass
class Checkpoint:
    """Everything that a run needs to go on as if it had never stopped.

    Attributes
    ----------
    step : int [-]
    weights, best, optimizer, average : dict    name -> tensor; the last two may be empty
    state : dict                                JSON values
    """

    step: int
    weights: Tensors
    best: Tensors
    optimizer: Tensors
    average: Tensors
    state: dict


class CheckpointStore:
    """The checkpoints of one run. Only rank 0 may use it.

    Parameters
    ----------
    directory : Path
    keep : int [-]            how many to keep, the newest
    config_digest : str       of everything that decides what is trained; other checkpoints are refused
    state_keys : iterable     keys without which a state is none: a checkpoint that lacks one is damaged

    Attributes
    ----------
    longest_write : float [s]    of the checkpoints that this object has written
    """

    def __init__(self, directory: Path, keep: int, config_digest: str, state_keys: Iterable[str] = ()) -> None:
        self.directory, self.keep, self.config_digest = directory, keep, config_digest
        self.state_keys = frozenset(state_keys)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: Future[None] | None = None
        self.longest_write = 0.0

    def save(self, checkpoint: Checkpoint) -> None:
        """Copy a checkpoint, then write it in the background, in place of one of the same step.

        Returns when all tensors are copied: what becomes of them later does not reach the file
        (tests/faults/test_save_faults.py). The oldest beyond `keep` go when the new one is there.

        Raises
        ------
        OSError       that the write before this one met; also when this one fails, at the next `poll`, `wait` or `save`
        ValueError    if a number of the state is not finite
        """
        self.wait()
        copies = {part: _copied(getattr(checkpoint, part)) for part in TENSOR_PARTS}
        self._saving = self._writer.submit(self._write, checkpoint.step, copies, json_bytes(checkpoint.state))

    def poll(self) -> None:
        """Raise the error of a background save that has failed, once. Costs nothing while one is under way."""
        if self._saving is not None and self._saving.done():
            self.wait()

    def wait(self) -> None:
        """Return when everything is written and synced. Raises the error of a save that failed, once."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def close(self) -> None:
        """Wait, and end the thread that writes."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def newest(self) -> Checkpoint | None:
        """Return the checkpoint of the highest step that is whole; damaged ones are named in a warning and passed over.

        Returns
        -------
        Checkpoint or None    None if there is no checkpoint at all

        Raises
        ------
        ModelRefusedError    if the newest whole checkpoint belongs to another configuration, or if none is whole
        OSError              that a background save met
        """
        self.wait()
        folders = self._folders()
        for step, path in reversed(folders):
            try:
                checkpoint, config_digest = self._read(step, path)
            except DamagedCheckpoint as damage:
                log.warning("checkpoint %s is damaged (%s); trying the one before it", path, damage)
                continue
            if config_digest != self.config_digest:
                raise ModelRefusedError(
                    f"{path} was trained with another flow, host, prepare or train section, seed or data; "
                    f"remove {self.directory} to train anew, or change run_dir"
                )
            return checkpoint
        if folders:
            raise ModelRefusedError(
                f"{self.directory}: none of the {len(folders)} checkpoints is whole; "
                "restore one from a copy, or remove this folder to train anew"
            )
        return None

    def _write(self, step: int, parts: dict[str, Tensors], state: bytes) -> None:
        """What the background thread does."""

        def contents() -> Iterator[tuple[str, bytes]]:
            for part in TENSOR_PARTS:
                yield f"{part}.safetensors", serialize(parts.pop(part))
            yield STATE, state

        started = time.perf_counter()
        publish_folder(self.directory / f"step-{step:08d}", contents(), step, self.config_digest)
        self.longest_write = max(self.longest_write, time.perf_counter() - started)
        try:
            self._remove_old(step)
        except OSError as error:  # such as a file that another node holds open; the checkpoint itself is safe
            log.warning("an old checkpoint could not be removed (%s); the next save tries again", error)

    def _read(self, step: int, path: Path) -> tuple[Checkpoint, str]:
        manifest, contents = read_folder(path, FILES)
        if manifest.step != step:
            raise DamagedCheckpoint(f"its manifest is that of step {manifest.step}")
        try:
            tensors = {part: deserialize(contents[f"{part}.safetensors"]) for part in TENSOR_PARTS}
            state = json.loads(contents[STATE])
            missing = self.state_keys - state.keys()
        except (SafetensorError, ValueError, AttributeError, RecursionError) as error:
            raise DamagedCheckpoint(f"{type(error).__name__}: {error}") from error
        if missing:
            raise DamagedCheckpoint(f"{STATE} lacks {', '.join(sorted(missing))}")
        return Checkpoint(step=step, state=state, **tensors), manifest.config_digest

    def _folders(self) -> list[tuple[int, Path]]:
        """Steps and folders by step; of one step the one that was about to be replaced comes first."""
        if not self.directory.is_dir():
            return []
        matches = [(_NAME.fullmatch(path.name), path) for path in self.directory.iterdir()]
        found = sorted((int(match[2]), match[1] is None, path) for match, path in matches if match)
        return [(step, path) for step, _, path in found]

    def _remove_old(self, newest_step: int) -> None:
        """Later steps than the one just written are damaged ones that were passed over: they take nobody's place."""
        for prefix in (PARTIAL, REPLACED):
            for remains in self.directory.glob(f"{prefix}*"):
                remove_folder(remains)
        older = [path for step, path in self._folders() if step <= newest_step]
        for path in older[: -self.keep]:
            remove_folder(path)


def serialize(tensors: Tensors, metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file as bytes, the same for the same content.

    The library writes its metadata in an order that changes from process to process; here the header is sorted.
    """
    data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the format aligns the data to 8 bytes
    return len(header).to_bytes(8, "little") + header + data[end:]


def deserialize(content: bytes) -> Tensors:
    """The tensors of a safetensors file, in memory of torch's own: results must not depend on how it is aligned."""
    return {name: tensor.clone() for name, tensor in safetensors.torch.load(content).items()}


def _copied(tensors: Tensors) -> Tensors:
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
