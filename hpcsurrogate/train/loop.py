"""The training loop: phases, steps, validation, early stopping, checkpoints, what follows from a fault.

Every decision is the same on all ranks.

Words
    step         one optimizer step, counted over all phases
    iteration    one optimizer step, counted within its phase
    fault        a loss or a gradient that is not finite, or weights that are not the same on all ranks
"""

import math
import time
from collections.abc import Sequence
from contextlib import closing

import torch
from torch import nn

from hpcsurrogate.core.config import Train
from hpcsurrogate.core.errors import DivergedError, ModelRefusedError, RequeueRequested
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.parallel import heartbeat
from hpcsurrogate.parallel.engine import Engine
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train.checkpoint import CheckpointStore
from hpcsurrogate.train.metrics_log import MetricsLog
from hpcsurrogate.train.phases import Batches, Phase
from hpcsurrogate.train.roll_call import RollCall
from hpcsurrogate.train.schedule import learning_rate
from hpcsurrogate.train.shards import Batch, Shards
from hpcsurrogate.train.shared_checkpoints import SharedCheckpoints
from hpcsurrogate.train.state import Progress, TrainingState
from hpcsurrogate.train.step import Outcome, Stepper
from hpcsurrogate.train.stop import StopRequest

log = get_logger("train")

SECONDS_BETWEEN_LINES = 5.0  # of progress on the terminal; validations are always shown


class Trainer:
    """Trains one module through a list of phases.

    Parameters
    ----------
    module : nn.Module          velocity_bcxy -> acceleration_bcxy; changed in place
    phases : sequence of Phase  done one after the other
    engine : Engine             sums over the ranks
    world : World
    settings : Train
    store : CheckpointStore     used on rank 0
    seed : int                  of dropout
    """

    def __init__(
        self,
        module: nn.Module,
        phases: Sequence[Phase],
        engine: Engine,
        world: World,
        settings: Train,
        store: CheckpointStore,
        seed: int = 0,
    ):
        self.module, self.phases, self.engine, self.world = module, phases, engine, world
        self.settings, self.store = settings, store
        self._checkpoints = SharedCheckpoints(world, store)
        self._state = TrainingState(module, settings)
        self._stepper = Stepper(self._state, engine, settings, Shards.of(settings, world), seed)
        self._roll_call = RollCall(world)
        self._metrics: MetricsLog | None = None
        self._last_line = -math.inf  # when progress was last shown

    @property
    def progress(self) -> Progress:
        """Where the training is."""
        return self._state.progress

    def resume(self) -> int:
        """Take up the newest whole checkpoint, if there is one.

        Returns
        -------
        int [-]    the step to go on from; 0 if training starts afresh

        Raises
        ------
        ModelRefusedError    on every rank, if the checkpoint belongs to another configuration, or none is whole
        """
        checkpoint = self._checkpoints.newest()
        if checkpoint is None:
            return 0
        self._state.restore(checkpoint)
        if checkpoint.step > 0:
            log.info("resuming from step %d", checkpoint.step)
        return checkpoint.step

    def run(self, metrics: MetricsLog | None, stop: StopRequest) -> None:
        """Train to the end of the last phase; the module then holds the weights of the best validation.

        `metrics` is None but on rank 0; `stop` is asked at every step, on every rank.

        Raises
        ------
        DivergedError       on every rank, after more faults than `train.on_divergence` allows
        ModelRefusedError   on every rank, if somebody removed the checkpoints that a fault leads back to
        OSError             if a checkpoint cannot be written
        RequeueRequested    on every rank, after a checkpoint, if any rank is asked to stop
        """
        self._metrics = metrics
        self.engine.broadcast(self.module, self._state.optimizer)
        if self.progress.step == 0:
            self._checkpoints.save(self._state)  # so that there is always one to go back to
            self._checkpoints.wait()
        while self.progress.phase < len(self.phases):
            self._run_phase(self.phases[self.progress.phase], stop)
        self._checkpoints.wait()

    def _run_phase(self, phase: Phase, stop: StopRequest) -> None:
        """Go on with a phase, to its end or until a fault has led back to a checkpoint."""
        if phase.num_iterations == 0:
            self.progress.phase += 1
            return
        phase.prepare()
        if self.progress.iteration == 0:
            self._state.start_phase()
            self._validate(phase)
            self.progress.validations_since_best = 0  # not finite or not, no step has been in vain yet
        # Closed, so that no thread still reads while the next phase does.
        with closing(phase.batches(self.progress.iteration)) as batches:
            self._run_iterations(phase, batches, stop)

    def _run_iterations(self, phase: Phase, batches: Batches, stop: StopRequest) -> None:
        ended_at = time.perf_counter()
        for epoch, window, batch in batches:
            outcome, record = self._train_step(phase, batch, stop)
            self._roll_call.add_step(time.perf_counter() - ended_at - outcome.waited)
            if outcome.fault and not self._may_leave_out(outcome.fault, phase):
                remedy = f"lower train.{phase.name}.learning_rate or host.time_step and train anew"
                self._roll_back(outcome.fault, phase, self.settings.on_divergence.rate_factor, remedy)
                return
            record |= {"epoch": epoch} if window is None else {"epoch": epoch, "window": window}
            if self.progress.iteration % phase.validate_every == 0 or self.progress.iteration == phase.num_iterations:
                record |= self._validate(phase)
            record["seconds"] = time.perf_counter() - ended_at
            stop.step_took(record["seconds"])
            self._write(record, phase)
            if not self._keep_and_go_on(phase, outcome.stop):
                return
            ended_at = time.perf_counter()

    def _keep_and_go_on(self, phase: Phase, stop_agreed: bool) -> bool:
        """Compare the ranks and checkpoint, where this is due; return whether the phase goes on from here."""
        ended = self._phase_has_ended(phase)
        # After steps that were left out the weights may be what led to them.
        is_due = self.progress.step % self.settings.checkpoint_every == 0 and self.progress.skips == 0
        must_save = ended or stop_agreed or is_due
        if must_save or self.progress.step % self.settings.roll_call_every == 0:
            heartbeat.beat(f"step {self.progress.step}: roll call")
            difference = self._roll_call.call(self._state.weights())
            if difference:
                self._roll_back(difference, phase, 1.0, "have the memory there checked, and go on without that node")
                return False
        if ended:
            self._state.end_phase()
        if must_save:
            self._checkpoints.save(self._state)
        if stop_agreed:
            self._checkpoints.wait()
            raise RequeueRequested(
                f"training checkpointed at step {self.progress.step} on request; run the same command to go on"
            )
        return not ended

    def _train_step(self, phase: Phase, batch: Batch, stop: StopRequest) -> tuple[Outcome, dict]:
        self._checkpoints.poll()
        stop.save_took(self.store.longest_write)
        progress = self.progress
        rate = learning_rate(progress.iteration, phase.num_iterations, phase.learning_rate, self.settings.warm_up)
        rate *= progress.rate_factor
        outcome = self._stepper.take(phase, batch, rate, lambda: stop.received)
        progress.iteration += 1
        progress.step += 1
        progress.skips = progress.skips + 1 if outcome.fault else 0
        record = {"phase": phase.name, "step": progress.step, "learning_rate": rate}
        return outcome, record | outcome.record()

    def _may_leave_out(self, fault: str, phase: Phase) -> bool:
        """Say that a step was left out, unless there were too many in a row."""
        allowed = self.settings.on_divergence.skips
        if self.progress.skips > allowed:
            return False
        self._warn(
            "%s: step %d is left out, %d of %d in a row: %s",
            phase.name, self.progress.step, self.progress.skips, allowed, fault,
        )  # fmt: skip
        return True

    def _roll_back(self, fault: str, phase: Phase, rate_factor: float, remedy: str) -> None:
        """Take up the newest checkpoint, or give up if that was done often enough."""
        rollbacks, rate_factor = self.progress.rollbacks + 1, self.progress.rate_factor * rate_factor
        step, allowed = self.progress.step, self.settings.on_divergence.rollbacks
        if rollbacks > allowed:
            raise DivergedError(
                f"train: {fault}, phase {phase.name}, step {step}, after {allowed} returns to a checkpoint; {remedy}"
            )
        self._checkpoints.wait()
        checkpoint = self._checkpoints.newest()
        if checkpoint is None:
            raise ModelRefusedError(
                f"{self.store.directory}: the checkpoints were removed while training ran, which has to go back to one "
                f"({fault}); train anew"
            )
        self._state.restore(checkpoint)
        self.progress.rollbacks, self.progress.rate_factor, self.progress.skips = rollbacks, rate_factor, 0
        if self._metrics is not None:
            self._metrics.go_back(checkpoint.step)
        self._warn(
            "%s: back from step %d to the checkpoint of step %d, %d of %d such returns, learning rate times %g: %s",
            phase.name, step, checkpoint.step, rollbacks, allowed, rate_factor, fault,
        )  # fmt: skip

    def _validate(self, phase: Phase) -> dict:
        """Validate, remember the best weights, and return what the record should hold."""
        self.module.eval()
        with torch.no_grad(), self._state.averaged():
            loss = phase.validation_loss(self.module)
            best = self.progress.best_loss
            if math.isfinite(loss) and (best is None or loss < best):
                self._state.note_best(loss)
            else:
                self.progress.validations_since_best += 1
        self.module.train()
        log.info("%s: step %d, validation loss %.5g", phase.name, self.progress.step, loss)
        if not math.isfinite(loss):
            self._warn("%s: these weights are not used: their validation is not finite", phase.name)
            return {}
        return {"validation_loss": loss}

    def _phase_has_ended(self, phase: Phase) -> bool:
        if self.progress.validations_since_best >= self.settings.patience:
            log.info("%s: no better for %d validations, stopping early", phase.name, self.settings.patience)
            return True
        return self.progress.iteration == phase.num_iterations

    def _write(self, record: dict, phase: Phase) -> None:
        if self._metrics is not None:
            self._metrics.write(record)
        if time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES and record["loss"] is not None:
            self._last_line = time.monotonic()
            done = f"{phase.name}: iteration {self.progress.iteration} of {phase.num_iterations}"
            log.info("%s, loss %.5g, %.2f s a step", done, record["loss"], record["seconds"])

    def _warn(self, message: str, *arguments: object) -> None:
        """Warn once for all ranks."""
        if self.world.rank == 0:
            log.warning(message, *arguments)
