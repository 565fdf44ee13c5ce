"""One trial of a search: a run directory of its own, a real training in a child process, and what came of it.

Written into the trial's folder, beside what every run leaves there: output.log (what the child said) and trial.json
(study/objectives.py).
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hpcsurrogate.core.atomic import read_json
from hpcsurrogate.core.config import Experiment, Tune
from hpcsurrogate.core.errors import (
    ConfigError,
    DivergedError,
    HpcsurrogateError,
    RankLostError,
    RequeueRequested,
)
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.pipeline.consistency import check_consistency
from hpcsurrogate.pipeline.runner import ERRORS_BY_EXIT_CODE
from hpcsurrogate.study.children import StopSignals, first_error
from hpcsurrogate.study.closure_cost import known_milliseconds
from hpcsurrogate.study.curves import falls_behind, read_curve
from hpcsurrogate.study.objectives import Outcome, write_outcome
from hpcsurrogate.study.runs import linked_run
from hpcsurrogate.study.search import Claim
from hpcsurrogate.study.tune_keys import last_phase, overrides

POLL_SECONDS = 1.0
STOP_SECONDS = 60.0  # that a pruned training has for its last checkpoint
# What the values of a trial can cause. All else, such as a full disk, would meet every trial alike.
OWN_FAULTS = (ConfigError, DivergedError, RankLostError)


def run_trial(
    claim: Claim, experiment: Experiment, tune: Tune, others: Sequence[Outcome], stop: StopSignals
) -> Outcome:
    """Train with the values of a trial, from its last checkpoint if it was begun before, and write trial.json.

    Parameters
    ----------
    claim : Claim
    experiment : Experiment          of the main run
    tune : Tune
    others : sequence of Outcome     of the finished trials
    stop : StopSignals               hands requests to stop to the training

    Raises
    ------
    RequeueRequested     if the training was asked to stop; the trial can be taken up again
    HpcsurrogateError    for what has nothing to do with the trial's values: a full disk, damaged data
    """
    name = f"{experiment.name}-{claim.directory.name}"
    try:
        changed = linked_run(experiment, claim.directory, overrides({**claim.values, "name": name}))
        check_consistency(changed)
        closure_ms = known_milliseconds(changed, claim.directory.parent)
    except ConfigError as error:
        return _written(claim, Outcome("failed", str(error)))
    state, reason = _train(claim, changed, tune, closure_ms, others, stop)
    objectives: tuple[float, ...] = ()
    if state == "complete":
        state, reason, objectives = _score(changed, tune, closure_ms)
    curve = tuple(read_curve(RunPaths(claim.directory).metrics, last_phase(changed)))
    return _written(claim, Outcome(state, reason, objectives, closure_ms, curve))


def _written(claim: Claim, outcome: Outcome) -> Outcome:
    write_outcome(claim.directory, outcome)
    return outcome


def _train(
    claim: Claim,
    experiment: Experiment,
    tune: Tune,
    closure_ms: float,
    others: Sequence[Outcome],
    stop: StopSignals,
) -> tuple[str, str]:
    """State and reason after the child has ended."""
    metrics, phase = RunPaths(claim.directory).metrics, last_phase(experiment)
    peers = [other for other in others if other.state == "complete"]
    if tune.cost:
        peers = [peer for peer in peers if peer.closure_ms <= closure_ms]
    curves = [peer.curve for peer in peers]

    def behind() -> bool:
        return tune.prune and falls_behind(read_curve(metrics, phase), curves)

    log = claim.directory / "output.log"
    said_before = log.stat().st_size if log.exists() else 0
    exit_code, pruned = _run_child(claim, "train" if tune.objective == "apriori" else "couple", log, behind, stop)
    if exit_code == 0:
        return "complete", ""
    if stop.received or (exit_code == RequeueRequested.exit_code and not pruned):
        raise RequeueRequested(f"tune: trial {claim.number} stopped on request; run the same command to go on")
    if pruned:
        return "pruned", f"after {len(read_curve(metrics, phase))} validations worse than the median of the others"
    kind = RankLostError if exit_code < 0 else ERRORS_BY_EXIT_CODE.get(exit_code, HpcsurrogateError)
    how = f"ended by signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    reason = first_error(log, said_before) or how
    if kind in OWN_FAULTS:
        return "failed", reason
    raise kind(f"tune: trial {claim.number}: {reason} (all it said: {log})")


def _run_child(claim: Claim, until: str, log: Path, behind: Callable[[], bool], stop: StopSignals) -> tuple[int, bool]:
    """Run the trial's pipeline; return its exit code, and whether it was asked to stop because it fell behind."""
    config = RunPaths(claim.directory).config
    command = [sys.executable, "-m", "hpcsurrogate", "run", str(config), "--until", until]
    deadline = None
    with log.open("ab") as output:
        # The child has the trial's lock too: as long as it lives, nobody else takes up this trial.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(claim.descriptor,)
        )
        with stop.handed_to(process):
            while True:
                try:
                    return process.wait(POLL_SECONDS), deadline is not None
                except subprocess.TimeoutExpired:
                    pass
                if deadline is None and behind():
                    process.send_signal(signal.SIGUSR1)
                    deadline = time.monotonic() + STOP_SECONDS
                elif deadline is not None and time.monotonic() > deadline:
                    process.kill()


def _score(experiment: Experiment, tune: Tune, closure_ms: float) -> tuple[str, str, tuple[float, ...]]:
    """State, reason and objectives of a training that ended well."""
    paths = RunPaths(experiment.run_dir)
    if tune.objective == "apriori":
        curve = read_curve(paths.metrics, last_phase(experiment))
        if not curve:
            return "failed", "no validation gave a finite number", ()
        best, cost = min(curve), closure_ms
    else:
        coupling = read_json(paths.coupling)
        line = next(line for line in coupling["contenders"] if line["name"] == coupling["learned"])
        blow_up = line["blow_up_time"] if not line["stable"] else (line["endurance"] or {}).get("blow_up_time")
        if blow_up is not None:
            return "failed", f"a run with the closure blew up at {blow_up:.3g} s", ()
        best, cost = line["decorrelation_time"], line["cost_ms_per_time_unit"]
    return "complete", "", (best, cost) if tune.cost else (best,)
