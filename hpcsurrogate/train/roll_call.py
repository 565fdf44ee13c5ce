"""What the ranks compare: at the start what they run, later their weights and how long each needs for a step."""

import hashlib
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median_low

from torch import Tensor, nn

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.parallel.world import World

log = get_logger("train")

SLOW = 3.0  # times the median, from which a rank is named
STEPS_TO_JUDGE = 5  # the time of fewer says little


@dataclass(frozen=True)
class _Answer:
    weights: str
    seconds: float
    host: str


def compare_setups(world: World, setup: dict[str, str]) -> None:
    """Refuse to train if the ranks do not run the same. Collective.

    Parameters
    ----------
    world : World
    setup : dict    what is compared, in words -> its value or digest

    Raises
    ------
    ConfigError    on every rank, naming the ranks that differ from most others, and in what
    """
    answers = world.allgather((setup, socket.gethostname()))
    for what in setup:
        others = others_than_most([answer.get(what, "nothing") for answer, _ in answers])
        if others:
            places = ", ".join(f"rank {rank} on {answers[rank][1]}" for rank in others)
            raise ConfigError(
                f"train: the {what} differs among the ranks: {places} against the others; "
                "start all ranks with one file and one installation"
            )


def parameter_digest(module: nn.Module) -> str:
    """SHA-256 of names, shapes and types of what a network holds; its values do not count."""
    return digest([[name, list(value.shape), str(value.dtype)] for name, value in module.state_dict().items()])


def others_than_most(values: Sequence[str]) -> list[int]:
    """Ranks whose value is not that of more than half of them; where there is none such, not that of rank 0."""
    common, count = Counter(values).most_common(1)[0]
    expected = common if 2 * count > len(values) else values[0]
    return [rank for rank, value in enumerate(values) if value != expected]


class RollCall:
    """Compares the ranks' weights, and names ranks that are much slower than the others, each once.

    Parameters
    ----------
    world : World
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._seconds, self._steps = 0.0, 0
        self._named: set[int] = set()

    def add_step(self, busy_seconds: float) -> None:
        """Count a step for which this rank needed so long, waiting for others not included [s]."""
        self._seconds += busy_seconds
        self._steps += 1

    def call(self, weights: Iterable[Tensor]) -> str | None:
        """Compare. Collective: every rank has done the same steps.

        Parameters
        ----------
        weights : iterable of Tensor    in the same order on every rank

        Returns
        -------
        str or None    which ranks' weights differ from most others', be it by a bit; None if all are equal
        """
        if self._world.size == 1:
            return None
        own = _Answer(_hash(weights), self._seconds / max(1, self._steps), socket.gethostname())
        answers = self._world.allgather(own)
        if self._steps >= STEPS_TO_JUDGE:
            self._name_slow_ranks(answers)
            self._seconds, self._steps = 0.0, 0
        others = others_than_most([answer.weights for answer in answers])
        if not others:
            return None
        places = ", ".join(f"rank {rank} on {answers[rank].host}" for rank in others)
        return f"the weights of {places} differ from those of the other ranks"

    def _name_slow_ranks(self, answers: list[_Answer]) -> None:
        # The lower of the two in the middle: of two ranks the faster one says what is usual.
        usual = median_low([answer.seconds for answer in answers])
        for rank, answer in enumerate(answers):
            if answer.seconds > SLOW * usual and rank not in self._named:
                self._named.add(rank)
                if self._world.rank == 0:
                    log.warning(
                        "rank %d on %s needs %.3g s a step, %.1f times the median of the ranks, and all wait for it; "
                        "look for another job on its cores, or a slow disk",
                        rank, answer.host, answer.seconds, answer.seconds / usual,
                    )  # fmt: skip


def _hash(weights: Iterable[Tensor]) -> str:
    found = hashlib.sha256()
    for tensor in weights:
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
