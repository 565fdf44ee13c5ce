"""One optimizer step on all ranks: the loss of every part, gradients averaged, and one verdict that all ranks share."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hpcsurrogate.core.config import Train
from hpcsurrogate.data.order import random_words
from hpcsurrogate.parallel import heartbeat
from hpcsurrogate.parallel.engine import Engine, clip_gradients
from hpcsurrogate.parallel.gradients import Gradients
from hpcsurrogate.train.losses import Closure
from hpcsurrogate.train.phases import Phase
from hpcsurrogate.train.shards import Batch, Shards
from hpcsurrogate.train.state import TrainingState

_DROPOUT = 100  # stream of random words, none of those of data/order.py and data/augment.py


@dataclass(frozen=True)
class Outcome:
    """What a step came to; the same on every rank, but for `waited`.

    Attributes
    ----------
    loss : float or None    mean over the batch [-]; None if it is not finite
    norm : float or None    of the averaged gradient, before clipping [-]; None if it is not finite
    fault : str or None     why nothing was changed, if that is not the loss scale of float16 alone
    stop : bool             whether any rank is asked to stop
    waited : float          time of this rank in which it had nothing to do but wait for others [s]
    """

    loss: float | None
    norm: float | None
    fault: str | None
    stop: bool
    waited: float

    def record(self) -> dict[str, float | str | None]:
        """What metrics.jsonl says about it."""
        left_out = {"left_out": self.fault} if self.fault else {}
        return {"loss": self.loss, "gradient_norm": self.norm, **left_out}


class Stepper:
    """Takes optimizer steps.

    Parameters
    ----------
    state : TrainingState    changed by every step
    engine : Engine
    settings : Train
    shards : Shards          the parts that every batch is done in
    seed : int               of dropout
    """

    def __init__(self, state: TrainingState, engine: Engine, settings: Train, shards: Shards, seed: int) -> None:
        self._state, self._engine, self._shards, self._seed = state, engine, shards, seed
        self._clip = settings.gradient_clip
        self._closure = in_precision(state.module, settings.precision)
        self._own_magnitudes: list[Tensor] = []
        for parameter in state.parameters:  # before Gradients takes them away
            parameter.register_post_accumulate_grad_hook(self._note_magnitude)
        self._gradients = Gradients(
            engine, state.parameters, shards.num_own, settings.gradient_compression, settings.exact
        )

    def take(self, phase: Phase, batch: Batch, rate: float, stop_received: Callable[[], bool]) -> Outcome:
        """Do the step after those that `state.progress` counts. Collective.

        Parameters
        ----------
        phase : Phase
        batch : dict of Tensor      this rank's share
        rate : float [-]            learning rate
        stop_received : callable    asked as late as possible, whether this rank is asked to stop

        Returns
        -------
        Outcome

        Notes
        -----
        If the loss or the gradient of any rank is not finite, nothing changes on any (tests/unit/train/test_step.py,
        tests/parallel/test_train_ranks.py).
        """
        step = self._state.progress.step + 1
        self._state.set_rate(rate)
        self._gradients.begin()
        self._own_magnitudes.clear()
        device = self._state.parameters[0].device
        # One entry a part and one for the stop: every entry is a number beside zeros, which no sum rounds.
        verdict = torch.zeros(self._shards.total + 1, dtype=torch.float64, device=device)
        for index, (number, part) in enumerate(self._shards.split(batch), start=1):
            heartbeat.beat(f"step {step}: loss of part {index} of {self._shards.num_own}")
            _generator(device).manual_seed(int(random_words(self._seed, _DROPOUT, self._counter(step, number))[0]))
            loss = phase.loss(self._closure, part)
            verdict[number] = loss.detach()
            if index == self._shards.num_own:
                verdict[-1] = float(stop_received())
                agreed = self._engine.sum_async(verdict, "verdict")
            heartbeat.beat(f"step {step}: gradient of part {index} of {self._shards.num_own}")
            self._gradients.backward(self._state.scaler.scale(loss))
        heartbeat.beat(f"step {step}: sums over the ranks")
        started = time.perf_counter()
        agreed.wait()
        self._gradients.finish()
        waited = time.perf_counter() - started
        heartbeat.beat(f"step {step}: update")
        *losses, stops = verdict.tolist()
        norm, fault = self._update(losses)
        return Outcome(_finite(sum(losses) / len(losses)), _finite(norm), fault, stops > 0.0, waited)

    def _update(self, losses: list[float]) -> tuple[float, str | None]:
        """Change the weights if all is finite; return the norm of the gradient, and the fault if there is one."""
        state = self._state
        state.scaler.unscale_(state.optimizer)
        norm = clip_gradients(state.parameters, self._clip).item()
        fault = self._fault_of_losses(losses)
        if fault is None and not math.isfinite(norm) and not self._scale_is_to_blame():
            fault = f"the norm of the gradient, averaged over the ranks, is {norm}{self._culprits()}"
        if fault is None and math.isfinite(norm):
            state.optimizer.step()
            if state.average is not None:
                state.average.update(state.module)
        state.scaler.update()
        return norm, fault

    def _fault_of_losses(self, losses: list[float]) -> str | None:
        bad = [number for number, loss in enumerate(losses) if not math.isfinite(loss)]
        if not bad:
            return None
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        return f"the loss is {losses[bad[0]]} on {self._shards.describe(bad[0])}{more}"

    def _note_magnitude(self, parameter: nn.Parameter) -> None:
        """What autograd calls with a part's own gradient of a parameter."""
        self._own_magnitudes.append(torch.linalg.vector_norm(parameter.grad, torch.inf))

    def _culprits(self) -> str:
        """Which ranks brought in what is not finite. Collective."""
        is_finite = all(math.isfinite(magnitude) for magnitude in self._own_magnitudes)
        bad = [rank for rank, fine in enumerate(self._shards.world.allgather(is_finite)) if not fine]
        if not bad:
            return ", though every rank's own is finite"
        return f", because of rank{'s' if len(bad) > 1 else ''} {', '.join(map(str, bad))}"

    def _scale_is_to_blame(self) -> bool:
        """Whether a smaller loss scale, which the scaler takes next, may yet give a finite gradient."""
        return self._state.scaler.is_enabled() and self._state.scaler.get_scale() > 1.0

    def _counter(self, step: int, number: int) -> np.ndarray:
        return np.array([step * self._shards.total + number])


def in_precision(module: nn.Module, precision: str) -> Closure:
    """The network with its arithmetic in `precision`, its result in the type of the velocity that it is given.

    A linear damping stays as it is: hosts take its rates, and nothing in it is faster in a lower precision.
    """
    if precision == "float32" or hasattr(module, "damping_rates"):
        return module

    def closure(velocity: Tensor, **features: Tensor) -> Tensor:
        with torch.autocast(velocity.device.type, getattr(torch, precision)):
            acceleration = module(velocity, **features)
        return acceleration.to(velocity.dtype)

    return closure


def _generator(device: torch.device) -> torch.Generator:
    """Whose numbers dropout takes there. torch.manual_seed would do, but takes a millisecond, for GPUs not in use."""
    return torch.default_generator if device.type == "cpu" else torch.cuda.default_generators[device.index]


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
