"""metrics.jsonl and TensorBoard, written by rank 0.

One object a line: phase, step (over all phases, from 1), epoch, loss [-], learning_rate, gradient_norm (before
clipping), seconds (wall time of the step, reading and validation included), in the unrolled phase window (length in
snapshot intervals), and after a validation that gave a finite number validation_loss [-]. loss or gradient_norm is null
where it is not finite; left_out says why a step changed nothing.
"""

import json
from pathlib import Path

from hpcsurrogate.core.atomic import write_text_atomic
from hpcsurrogate.core.errors import ConfigError


class MetricsLog:
    """The training record of one run. A resumed run cuts off what lies behind its checkpoint, then goes on.

    Parameters
    ----------
    path : Path                      metrics.jsonl
    tensorboard_dir : Path or None   event files go there; None for none
    resumed_step : int [-]           last step that the checkpoint has seen, 0 for a fresh run

    Raises
    ------
    ConfigError    if TensorBoard is wanted and not installed
    """

    def __init__(self, path: Path, tensorboard_dir: Path | None, resumed_step: int) -> None:
        self._path, self._tensorboard_dir = path, tensorboard_dir
        self._open(resumed_step)

    def write(self, record: dict) -> None:
        """Append one record and hand it to the operating system, so that a killed run has lost no line."""
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()
        if self._writer is not None:
            for name in ("loss", "validation_loss", "learning_rate", "gradient_norm"):
                if record.get(name) is not None:
                    self._writer.add_scalar(f"{record['phase']}/{name}", record[name], record["step"])

    def go_back(self, step: int) -> None:
        """Forget the records after `step`, from which training goes on again."""
        self.close()
        self._open(step)

    def close(self) -> None:
        self._file.close()
        if self._writer is not None:
            self._writer.close()

    def _open(self, step: int) -> None:
        _keep_lines_until(self._path, step)
        self._writer = None if self._tensorboard_dir is None else _summary_writer(self._tensorboard_dir, step)
        self._file = self._path.open("a", encoding="utf-8")


def _keep_lines_until(path: Path, step: int) -> None:
    """Rewrite the file with the lines up to `step`; a line torn by a kill lies behind any checkpoint and goes too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = []
    if path.exists() and step > 0:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                break
            if record["step"] > step:
                break
            kept.append(line + "\n")
    write_text_atomic(path, "".join(kept))


def _summary_writer(directory: Path, resumed_step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as missing:
        raise ConfigError(
            "train.tensorboard is true but TensorBoard is not installed; "
            "run `pip install tensorboard` or set train.tensorboard to false"
        ) from missing
    return SummaryWriter(str(directory), purge_step=resumed_step + 1)
