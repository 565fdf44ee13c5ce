"""What a training has reached: everything that a checkpoint holds, and that a resumed run goes on from.

Nothing else decides what follows: batches, dropout and learning rate are functions of the iteration and the seed.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from hpcsurrogate.core.config import Train
from hpcsurrogate.train.checkpoint import Checkpoint, Tensors
from hpcsurrogate.train.transfer import parameter_groups
from hpcsurrogate.train.weight_average import WeightAverage

LOSS_SCALE = "loss_scale"


@dataclass
class Progress:
    """Where the run is.

    Attributes
    ----------
    phase : int                     number of the phase
    iteration, step : int           done in the phase, and over all phases; steps that were left out count
    best_loss : float or None       of the phase's validations
    validations_since_best : int
    skips : int                     steps in a row, up to now, that were left out
    rollbacks : int                 returns to a checkpoint in this phase
    rate_factor : float [-]         on the phase's learning rate, after such returns
    """

    phase: int = 0
    iteration: int = 0
    step: int = 0
    best_loss: float | None = None
    validations_since_best: int = 0
    skips: int = 0
    rollbacks: int = 0
    rate_factor: float = 1.0


# Without any of these a checkpoint's state is none.
STATE_KEYS = (*(field.name for field in fields(Progress)), LOSS_SCALE)


class TrainingState:
    """Network, optimizer, average and best weights, and progress.

    Parameters
    ----------
    module : nn.Module    changed in place
    settings : Train

    Attributes
    ----------
    parameters : list of nn.Parameter    those that learn
    optimizer : torch.optim.AdamW        its rate is set at every step
    scaler : torch.amp.GradScaler        of the loss, for float16 alone
    average : WeightAverage or None
    best : dict of Tensor                the weights of the best validation of the phase, or its first ones
    progress : Progress
    """

    def __init__(self, module: nn.Module, settings: Train) -> None:
        self.module, self._decay = module, settings.weight_average
        groups = parameter_groups(module, settings.initialise_from)
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        # One for all phases.
        self.optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
        device = self.parameters[0].device.type
        self.scaler = torch.amp.GradScaler(device, enabled=settings.precision == "float16")
        self.progress = Progress()
        self.start_phase()

    def start_phase(self) -> None:
        """Count the weights as they are as the phase's best so far, and average from them on."""
        self.average = None if self._decay is None else WeightAverage(self.module, self._decay)
        self.best = _copies(self.module.state_dict())

    def end_phase(self) -> None:
        """Go on from the best weights, with nothing remembered of the phase that ends."""
        self.module.load_state_dict(self.best)
        self._set_optimizer_tensors({})
        self.progress = Progress(phase=self.progress.phase + 1, step=self.progress.step)
        self.start_phase()

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of all groups, each times its own factor."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]

    def averaged(self) -> AbstractContextManager[None]:
        """Context in which the module holds the weights that are validated and kept: the average, if there is one."""
        return nullcontext() if self.average is None else self.average.applied_to(self.module)

    def note_best(self, loss: float) -> None:
        """Keep the weights that the module holds as the best, validated with this loss [-]."""
        self.progress.best_loss, self.progress.validations_since_best = loss, 0
        self.best = _copies(self.module.state_dict())

    def weights(self) -> list[Tensor]:
        """All that must be the same on every rank, bit for bit, after every step."""
        return [*self.module.state_dict().values(), *self._average_tensors().values()]

    def checkpoint(self) -> Checkpoint:
        """All of this; the tensors are not copied."""
        optimizer = {
            f"{index}.{key}": value
            for index, entry in self.optimizer.state_dict()["state"].items()
            for key, value in entry.items()
        }
        state = vars(self.progress) | {LOSS_SCALE: self.scaler.state_dict()}
        return Checkpoint(
            step=self.progress.step,
            weights=self.module.state_dict(),
            best=self.best,
            optimizer=optimizer,
            average=self._average_tensors(),
            state=state,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Become what `checkpoint` returned (tests/unit/train/test_state.py)."""
        self.module.load_state_dict(checkpoint.weights)
        self.best = checkpoint.best
        self._set_optimizer_tensors(checkpoint.optimizer)
        if self.average is not None:
            self.average.load_state_dict(checkpoint.average)
        self.scaler.load_state_dict(checkpoint.state[LOSS_SCALE])
        self.progress = Progress(**{field.name: checkpoint.state[field.name] for field in fields(Progress)})

    def _average_tensors(self) -> Tensors:
        return {} if self.average is None else self.average.state_dict()

    def _set_optimizer_tensors(self, tensors: Tensors) -> None:
        """Replace all that the optimizer remembers; no tensors for one that has not seen a gradient."""
        state: dict[int, Tensors] = {}
        for name, tensor in tensors.items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})


def _copies(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
