"""The checkpoints of a run as all ranks see them: rank 0 writes and reads, and what it meets, all meet."""

from hpcsurrogate.parallel import heartbeat
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train.checkpoint import Checkpoint, CheckpointStore
from hpcsurrogate.train.state import TrainingState


class SharedCheckpoints:
    """All methods but `poll` are collective; errors of the store (OSError, ModelRefusedError) rise on every rank.

    Parameters
    ----------
    world : World
    store : CheckpointStore    used on rank 0 alone
    """

    def __init__(self, world: World, store: CheckpointStore) -> None:
        self._world, self._store = world, store

    def save(self, state: TrainingState) -> None:
        """Hand the state to the store, which writes it while training goes on."""
        heartbeat.beat(f"step {state.progress.step}: checkpoint")
        with self._world.failing_together():
            if self._world.rank == 0:
                self._store.save(state.checkpoint())

    def poll(self) -> None:
        """Raise, on rank 0 alone, the error of a checkpoint that could not be written; the others are ended with it."""
        if self._world.rank == 0:
            self._store.poll()

    def wait(self) -> None:
        """Return when all checkpoints are written."""
        heartbeat.beat("checkpoint: until all is written")
        with self._world.failing_together():
            if self._world.rank == 0:
                self._store.wait()

    def newest(self) -> Checkpoint | None:
        """What rank 0 reads, on all ranks: a slow file system cannot show two of them two different checkpoints."""
        heartbeat.beat("checkpoint: reading the newest")
        checkpoint = None
        with self._world.failing_together():
            if self._world.rank == 0:
                checkpoint = self._store.newest()
        return self._world.bcast(checkpoint)
