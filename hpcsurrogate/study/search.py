"""The search as Optuna keeps it: which trials there are, who works on which, and what to try next.

Optuna's journal lies in the search's folder, where all processes that share the search append to it. It holds values
and outcomes of the trials; all else about a trial lies in the trial's own folder (study/trials.py).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsurrogate.core.config import Tune
from hpcsurrogate.core.config_jobs import Choices, Range
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.study.locks import try_lock, waiting_lock
from hpcsurrogate.study.objectives import Outcome, read_outcome
from hpcsurrogate.study.tune_keys import Values

try:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    from optuna.trial import FrozenTrial, TrialState
except ModuleNotFoundError:
    raise ConfigError("tune needs Optuna, which is missing: pip install 'hpcsurrogate[tune,plots]'") from None

NAME = "tune"
JOURNAL = "journal.log"
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


@dataclass(frozen=True)
class Claim:
    """A trial that this process works on, and nobody else.

    Attributes
    ----------
    number : int
    values : dict          key of the experiment -> value
    directory : Path       of the trial
    descriptor : int       of its lock; a child process that gets it holds the lock too
    """

    number: int
    values: Values
    directory: Path
    descriptor: int


@dataclass(frozen=True)
class TrialRecord:
    """What became of a trial: running, complete, pruned or failed; objectives only of a complete one."""

    number: int
    state: str
    values: Values
    objectives: tuple[float, ...]


class Search:
    """A search that several processes, on several machines with one file system, may share.

    Parameters
    ----------
    folder : Path            of the search; its trials get trial-0000/, ... in it
    tune : Tune
    directions : list of str     "minimize" or "maximize", one an objective
    identity : str           digest of all that makes trials comparable
    seed : int

    Raises
    ------
    ConfigError    if the folder holds a search of another identity

    Notes
    -----
    A process may be killed at any moment, also while it writes: its trial is claimed by the next, and what it had
    written in part is cut off (tests/unit/study/test_search.py).
    """

    def __init__(self, folder: Path, tune: Tune, directions: list[str], identity: str, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._spaces = {key: _distribution(space) for key, space in tune.parameters.items()}
        self._lock = folder / "claim.lock"
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with waiting_lock(self._lock):
            self._study = _open_study(folder / JOURNAL, directions)
            found = self._study.user_attrs.get("identity")
            if found is None:
                self._study.set_user_attr("identity", identity)
            elif found != identity:
                raise ConfigError(
                    f"{folder}: holds a search that began with another experiment, other data or another version; "
                    "remove the folder to search anew, or set another run_dir"
                )

    @contextmanager
    def claim(self, total: int, first: Values) -> Iterator[Claim | None]:
        """Hold a trial while the block runs: one that was left behind by a killed process, or a new one.

        Parameters
        ----------
        total : int       of trials, running and finished ones included
        first : dict      values for the very first trial; those outside their range are left out

        Yields
        ------
        Claim or None    None if there are `total` trials and somebody works on every one that is not finished
        """
        with waiting_lock(self._lock):
            claim = self._abandoned() or self._new(total, first)
        try:
            yield claim
        finally:
            if claim is not None:
                os.close(claim.descriptor)

    def finish(self, claim: Claim, state: str, objectives: tuple[float, ...]) -> None:
        """Record the outcome of a claimed trial."""
        number = next(key for key, name in STATES.items() if name == state)
        # Under the lock: nobody may see it running, and find it free once this process has let it go.
        with waiting_lock(self._lock):
            self._study.tell(claim.number, list(objectives) or None, number)

    def records(self) -> list[TrialRecord]:
        """All trials by number."""
        return [
            TrialRecord(trial.number, STATES.get(trial.state, "running"), trial.params, tuple(trial.values or ()))
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state != TrialState.WAITING
        ]

    def front(self) -> list[int]:
        """Numbers of the complete trials that no other beats in one objective without losing in another."""
        return sorted(trial.number for trial in self._study.best_trials)

    def outcomes(self) -> dict[int, Outcome]:
        """What became of the finished trials, by their numbers; not of one that was killed while it chose values."""
        finished = [record.number for record in self.records() if record.state != "running"]
        found = {number: read_outcome(self.trial_directory(number)) for number in finished}
        return {number: outcome for number, outcome in found.items() if outcome is not None}

    def trial_directory(self, number: int) -> Path:
        return self._folder / f"trial-{number:04d}"

    def _abandoned(self) -> Claim | None:
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            claim = self._claimed(trial)
            if claim is None:
                continue
            if claim.values.keys() == self._spaces.keys():
                return claim
            # Killed while it chose its values: nothing was trained, and the search may go on without it.
            self._study.tell(trial.number, state=TrialState.FAIL)
            os.close(claim.descriptor)
        return None

    def _new(self, total: int, first: Values) -> Claim | None:
        known = self._study.get_trials(deepcopy=False)
        waiting = [trial for trial in known if trial.state == TrialState.WAITING]
        if len(known) - len(waiting) >= total:
            return None
        if not known:
            self._study.enqueue_trial({key: value for key, value in first.items() if self._allows(key, value)})
        # A seed for every number, so that a search repeats itself and two processes never draw alike.
        seed = int(digest([self._seed, len(known) - len(waiting)])[:8], 16)
        self._study.sampler = optuna.samplers.TPESampler(seed=seed)
        number = self._study.ask(self._spaces).number
        return self._claimed(next(trial for trial in self._study.get_trials() if trial.number == number))

    def _claimed(self, trial: FrozenTrial) -> Claim | None:
        directory = self.trial_directory(trial.number)
        descriptor = try_lock(directory / "trial.lock")
        return None if descriptor is None else Claim(trial.number, dict(trial.params), directory, descriptor)

    def _allows(self, key: str, value: Any) -> bool:
        space = self._spaces.get(key)
        if isinstance(space, CategoricalDistribution):
            return any(type(choice) is type(value) and choice == value for choice in space.choices)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return space is not None and number and space.low <= value <= space.high


def _distribution(space: Range | Choices) -> BaseDistribution:
    if isinstance(space, Choices):
        return CategoricalDistribution(space.choices)
    if isinstance(space.low, int) and isinstance(space.high, int):
        return IntDistribution(space.low, space.high, log=space.log)
    return FloatDistribution(space.low, space.high, log=space.log)


def _open_study(journal: Path, directions: list[str]) -> optuna.Study:
    # A lock that is sound on NFS too. Whoever is killed while he holds it delays the others by half a minute.
    lock = JournalFileOpenLock(str(journal))
    _cut_torn_line(journal, lock)
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
        return optuna.create_study(storage=storage, study_name=NAME, directions=directions, load_if_exists=True)
    except ValueError as error:
        raise DataError(f"{journal}: damaged ({error}); remove the folder {journal.parent} to search anew") from None


def _cut_torn_line(journal: Path, lock: JournalFileOpenLock) -> None:
    """Remove what a killed process or a full disk left of a last line: the next line would be glued to it."""
    if not journal.exists():
        return
    lock.acquire()
    try:
        with journal.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
    finally:
        lock.release()
