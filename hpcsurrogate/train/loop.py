"""The training loop: phases, steps, validation, early stopping, checkpoints. Every decision is the same on all ranks.

Words
    step         one optimizer step, counted over all phases
    iteration    one optimizer step, counted within its phase
"""

import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import nn

from hpcsurrogate.core.config import Train
from hpcsurrogate.core.errors import DivergedError, HpcsurrogateError, RequeueRequested
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.parallel.engine import Engine
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train.checkpoint import Checkpoint, CheckpointStore, Tensors
from hpcsurrogate.train.metrics_log import MetricsLog
from hpcsurrogate.train.phases import Batches, Phase
from hpcsurrogate.train.schedule import learning_rate
from hpcsurrogate.train.stop import StopRequest

log = get_logger("train")

SECONDS_BETWEEN_LINES = 5.0  # of progress on the terminal; validations are always shown
RNG_STATE = "torch_rng_state"


@dataclass
class Progress:
    """Where the run is. Together with weights, best weights and optimizer it determines everything that follows."""

    phase: int = 0
    iteration: int = 0
    step: int = 0
    best_loss: float | None = None
    validations_since_best: int = 0


class Trainer:
    """Trains one module through a list of phases.

    Parameters
    ----------
    module : nn.Module          velocity_bcxy -> acceleration_bcxy; changed in place
    phases : sequence of Phase  done one after the other
    engine : Engine             averages gradients over the ranks
    world : World
    settings : Train
    store : CheckpointStore     used on rank 0
    """

    def __init__(
        self,
        module: nn.Module,
        phases: Sequence[Phase],
        engine: Engine,
        world: World,
        settings: Train,
        store: CheckpointStore,
    ):
        self.module, self.phases, self.engine, self.world = module, phases, engine, world
        self.settings, self.store = settings, store
        self.progress = Progress()
        self._best: Tensors = _copy(module.state_dict())
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        # One for all phases: Horovod hooks a module for good. The rate is set at every step.
        self._optimizer = engine.wrap(torch.optim.Adam(self._parameters), module)
        self._metrics: MetricsLog | None = None
        self._last_line = -math.inf

    def resume(self) -> int:
        """Take up the newest whole checkpoint, if there is one.

        Returns
        -------
        int [-]    the step to go on from; 0 if training starts afresh

        Raises
        ------
        ModelRefusedError    on every rank, if the checkpoint belongs to another configuration
        """
        checkpoint = self._newest_on_all_ranks()
        if checkpoint is None:
            return 0
        self.module.load_state_dict(checkpoint.weights)
        self._best = checkpoint.best
        torch.set_rng_state(checkpoint.optimizer.pop(RNG_STATE))
        self._set_optimizer_state(checkpoint.optimizer)
        self.progress = Progress(**{name: checkpoint.state[name] for name in vars(self.progress)})
        log.info("resuming from step %d", checkpoint.step)
        return checkpoint.step

    def run(self, metrics: MetricsLog | None) -> None:
        """Train to the end of the last phase; the module then holds the weights of the best validation.

        Raises
        ------
        DivergedError       on every rank, if the loss or the gradient of any rank is not finite
        RequeueRequested    on every rank, after a checkpoint, if any rank was sent SIGTERM or SIGUSR1
        """
        self._metrics = metrics
        self.engine.broadcast(self.module, self._optimizer)
        with StopRequest() as stop:
            while self.progress.phase < len(self.phases):
                self._run_phase(self.phases[self.progress.phase], stop)

    def _run_phase(self, phase: Phase, stop: StopRequest) -> None:
        if phase.num_iterations == 0:
            return self._end_phase()
        phase.prepare()
        if self.progress.iteration == 0:
            self._best = _copy(self.module.state_dict())
            self._validate(phase)
        # Closed, so that no thread still reads while the next phase does.
        with closing(phase.batches(self.progress.iteration)) as batches:
            return self._run_iterations(phase, batches, stop)

    def _run_iterations(self, phase: Phase, batches: Batches, stop: StopRequest) -> None:
        for epoch, window, batch in batches:
            started = time.perf_counter()
            record, stop_agreed = self._train_step(phase, batch, stop)
            record |= {"epoch": epoch} if window is None else {"epoch": epoch, "window": window}
            if self.progress.iteration % phase.validate_every == 0 or self.progress.iteration == phase.num_iterations:
                record |= self._validate(phase)
            self._write(record | {"seconds": time.perf_counter() - started}, phase)
            ended = self._phase_has_ended(phase)
            if ended:
                self._end_phase()
            if ended or stop_agreed or self.progress.step % self.settings.checkpoint_every == 0:
                self._save()
            if stop_agreed:
                raise RequeueRequested(
                    f"training checkpointed at step {self.progress.step} on request; run the same command to go on"
                )
            if ended:
                return

    def _train_step(self, phase: Phase, batch: dict, stop: StopRequest) -> tuple[dict, bool]:
        """One step. Loss and request to stop are agreed on before anything changes, in one small message."""
        rate = learning_rate(self.progress.iteration, phase.num_iterations, phase.learning_rate)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        loss = phase.loss(self.module, batch)
        own_loss = loss.item()
        agreed = self.engine.mean(torch.tensor([own_loss, float(stop.received)], dtype=torch.float64))
        mean_loss, stops = agreed.tolist()
        if not math.isfinite(mean_loss):
            losses = self.world.allgather(own_loss)
            rank = next(rank for rank, loss in enumerate(losses) if not math.isfinite(loss))
            raise self._diverged(phase, f"loss is {losses[rank]} on rank {rank}")
        loss.backward()
        norm = float(self.engine.step(self._optimizer, self._parameters, self.settings.gradient_clip))
        if not math.isfinite(norm):
            raise self._diverged(phase, f"norm of the gradient, averaged over the ranks, is {norm}")
        self.progress.iteration += 1
        self.progress.step += 1
        record = {"phase": phase.name, "step": self.progress.step, "loss": mean_loss, "learning_rate": rate}
        return record | {"gradient_norm": norm}, stops > 0.0

    def _diverged(self, phase: Phase, what: str) -> DivergedError:
        return DivergedError(
            f"train: the {what}, phase {phase.name}, step {self.progress.step + 1}; "
            f"lower train.{phase.name}.learning_rate or host.time_step and train anew"
        )

    def _validate(self, phase: Phase) -> dict:
        """Validate, remember the best weights, and return what the record should hold."""
        self.module.eval()
        with torch.no_grad():
            loss = self.world.bcast(phase.validation_loss(self.module))
        self.module.train()
        progress = self.progress
        if math.isfinite(loss) and (progress.best_loss is None or loss < progress.best_loss):
            progress.best_loss, progress.validations_since_best = loss, 0
            self._best = _copy(self.module.state_dict())
        else:
            progress.validations_since_best += 1
        log.info("%s: step %d, validation loss %.5g", phase.name, progress.step, loss)
        if not math.isfinite(loss):
            log.warning("%s: these weights are not used: their validation gives no finite number", phase.name)
            return {}
        return {"validation_loss": loss}

    def _phase_has_ended(self, phase: Phase) -> bool:
        if self.progress.validations_since_best >= self.settings.patience:
            log.info("%s: no better for %d validations, stopping early", phase.name, self.settings.patience)
            return True
        return self.progress.iteration == phase.num_iterations

    def _end_phase(self) -> None:
        """Go on from the best weights, with nothing remembered of the phase that ends."""
        self.module.load_state_dict(self._best)
        self._set_optimizer_state({})
        self.progress = Progress(phase=self.progress.phase + 1, step=self.progress.step)

    def _set_optimizer_state(self, tensors: Tensors) -> None:
        """Replace all that the optimizer remembers; no tensors for an optimizer that has not seen a gradient."""
        state: dict[int, Tensors] = {}
        for name, tensor in tensors.items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        self._optimizer.load_state_dict(self._optimizer.state_dict() | {"state": state})

    def _write(self, record: dict, phase: Phase) -> None:
        if self._metrics is not None:
            self._metrics.write(record)
        if time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            iteration = f"{self.progress.iteration} of {phase.num_iterations}"
            log.info(
                "%s: iteration %s, loss %.5g, %.2f s a step", phase.name, iteration, record["loss"], record["seconds"]
            )

    def _save(self) -> None:
        if self.world.rank == 0:
            state = self._optimizer.state_dict()["state"]
            tensors = {f"{index}.{key}": value for index, entry in state.items() for key, value in entry.items()}
            tensors[RNG_STATE] = torch.get_rng_state()
            weights = self.module.state_dict()
            self.store.save(Checkpoint(self.progress.step, weights, self._best, tensors, vars(self.progress)))
        self.world.barrier()

    def _newest_on_all_ranks(self) -> Checkpoint | None:
        """Rank 0 reads, all get what it read: a slow file system cannot show two ranks two different checkpoints."""
        outcome: Checkpoint | HpcsurrogateError | None = None
        if self.world.rank == 0:
            try:
                outcome = self.store.newest()
            except HpcsurrogateError as error:  # raised below, on every rank
                outcome = error
        outcome = self.world.bcast(outcome)
        if isinstance(outcome, HpcsurrogateError):
            raise outcome
        return outcome


def _copy(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
