"""Kill a training at random moments, again and again: it must end with the bits of one that nothing disturbed.

A small training in exact mode is started on 1, 2 or 4 ranks and killed by SIGKILL: a rank, the guard of one, mpirun, or
all at once; while it starts, in its steps, or in the middle of a save. Then it is started again, on another number of
ranks, and killed again. Once it comes to its end, its weights must equal the undisturbed training's bit for bit and its
run directory must hold the same files; then the next training begins, until there have been enough kills.

    python scripts/fault_campaign.py --kills 100 --json campaign.json
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fault_experiment import (
    Reference,
    faults_of_the_end,
    is_done,
    prepare_run,
    relative_files,
    weights_of,
    write_experiment,
)
from fault_jobs import Job, send

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import provenance

TARGETS = ("rank", "guard", "mpirun", "all at once")
MOMENTS = ("start", "steps", "save")
RANKS = (1, 2, 4)
MOST_SECONDS = 30.0  # until nothing of a killed job lives
LIMIT = 300.0  # seconds for what takes about 5 on idle cores
OVERRIDES = ("train.checkpoint_every=2",)  # so that there is a save to be met


@dataclass(frozen=True)
class Kill:
    """What was killed when, and what became of the job.

    Attributes
    ----------
    target, moment : str
    ranks, step : int    of the job, and the last step it had written
    seconds : float      until nothing of it lived
    faults : tuple       what was wrong with the way it ended
    """

    target: str
    moment: str
    ranks: int
    step: int
    seconds: float
    faults: tuple[str, ...]


def run_reference(experiment_file: Path, run_dir: Path) -> Reference:
    """Do the training without a fault."""
    started = time.monotonic()
    job = Job(experiment_file, run_dir, OVERRIDES, ranks=2)
    job.wait_for_step(1, LIMIT)
    seconds = time.monotonic() - started
    finished = job.finish(LIMIT)
    assert finished.exit_code == 0, finished.stderr
    return Reference(weights_of(run_dir), relative_files(run_dir), seconds)


def wait_for_moment(moment: str, job: Job, run_dir: Path, start_seconds: float, chance: random.Random) -> None:
    """Return at a random time in a part of the job's life, or when it has ended."""
    if moment == "start":
        time.sleep(chance.uniform(0.0, start_seconds))
        return
    _wait(job, lambda: job.step() > 0, pause=0.01)
    if moment == "steps":
        time.sleep(chance.uniform(0.0, 1.0))
        return
    checkpoints = RunPaths(run_dir).checkpoints
    for _ in range(chance.randint(1, 4)):  # not always the first save
        before = _unfinished(checkpoints)
        _wait(job, lambda before=before: _unfinished(checkpoints) - before, pause=0.001)
    time.sleep(chance.uniform(0.0, 0.005))


def _wait(job: Job, condition: Callable[[], object], pause: float) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition() and job.process.poll() is None and time.monotonic() < deadline:
        time.sleep(pause)


def _unfinished(checkpoints: Path) -> set[str]:
    """Hidden folders, which a save or a removal is at work on, or a killed one left."""
    return {name for name in os.listdir(checkpoints) if name.startswith(".")} if checkpoints.exists() else set()


def kill(target: str, job: Job, chance: random.Random) -> str:
    """Send SIGKILL, and return what it was sent to: a job that is starting may not have its ranks yet."""
    ranks = job.ranks()
    if target == "all at once":
        for pid in job.living():
            send(pid, signal.SIGKILL)
        return target
    if target == "mpirun" or not ranks:
        send(job.process.pid, signal.SIGKILL)
        return "mpirun"
    victim = chance.choice(ranks)
    send(victim.worker if target == "rank" else victim.guard, signal.SIGKILL)
    return target


def end_of(job: Job, killed_at: float) -> tuple[float, list[str]]:
    """Wait until nothing of a killed job lives; seconds that took, and what was wrong."""
    faults = []
    while (living := job.living()) and time.monotonic() - killed_at < MOST_SECONDS:
        time.sleep(0.02)
        job.process.poll()
    seconds = time.monotonic() - killed_at
    if living:
        faults.append(f"alive after {MOST_SECONDS:.0f} s: {living}")
        job.kill()
    if "Traceback" in job.stderr:
        faults.append("a traceback was printed")
    return seconds, faults


def disturb(job: Job, ranks: int, run_dir: Path, reference: Reference, chance: random.Random) -> Kill | None:
    """Kill the job at some moment; None if it came to its end before."""
    moment, target = chance.choice(MOMENTS), chance.choice(TARGETS)
    wait_for_moment(moment, job, run_dir, reference.seconds, chance)
    step = job.step()
    if job.process.poll() is not None:
        return None
    killed_at = time.monotonic()
    target = kill(target, job, chance)
    seconds, faults = end_of(job, killed_at)
    if job.finish(LIMIT).exit_code == 0:  # it was at its end already
        return None
    return Kill(target, moment, ranks, step, seconds, tuple(faults))


def train_to_the_end(
    number: int, experiment_file: Path, run_dir: Path, reference: Reference, chance: random.Random
) -> tuple[list[Kill], list[str]]:
    """Start one training as often as it takes, killed `number` times at most; the kills, and faults of its end."""
    kills: list[Kill] = []
    while not is_done(run_dir):
        ranks = chance.choice(RANKS)
        job = Job(experiment_file, run_dir, OVERRIDES, ranks)
        done = disturb(job, ranks, run_dir, reference, chance) if len(kills) < number else None
        if done is not None:
            kills.append(done)
            print(
                f"{done.target} killed, {done.moment}, {ranks} ranks, step {done.step}, {done.seconds:.1f} s",
                flush=True,
            )
            continue
        finished = job.finish(LIMIT)
        if finished.exit_code != 0:
            return kills, [f"exit code {finished.exit_code} on {ranks} ranks, nothing killed: {finished.stderr}"]
        break
    return kills, faults_of_the_end(run_dir, reference)


def run_campaign(number: int, directory: Path, seed: int) -> tuple[list[Kill], list[list[str]]]:
    """Kill as often as asked, in as many trainings as that takes.

    Returns
    -------
    list of Kill
    list    for each training, what was wrong at its end
    """
    chance = random.Random(seed)
    experiment_file = write_experiment(directory)
    prepare_run(experiment_file)
    reference = run_reference(experiment_file, Path(shutil.copytree(directory / "run", directory / "reference")))
    kills: list[Kill] = []
    ends: list[list[str]] = []
    while len(kills) < number:
        run_dir = Path(shutil.copytree(directory / "run", directory / f"training-{len(ends)}"))
        some, faults = train_to_the_end(number - len(kills), experiment_file, run_dir, reference, chance)
        kills += some
        ends.append(faults)
    return kills, ends


def report(kills: Sequence[Kill], ends: Sequence[Sequence[str]], json_file: Path | None) -> int:
    """Print the table and every fault, write the file; 0 if there is none."""
    print(f"\n{'killed':<14}{'in':<8}{'kills':>6}{'survived':>10}{'longest s to exit':>19}")
    for target in TARGETS:
        for moment in MOMENTS:
            some = [each for each in kills if (each.target, each.moment) == (target, moment)]
            if some:
                survived, longest = sum(not each.faults for each in some), max(each.seconds for each in some)
                print(f"{target:<14}{moment:<8}{len(some):>6}{survived:>10}{longest:>19.1f}")
    for each in kills:
        for fault in each.faults:
            print(f"FAULT: {each.target} killed, {each.moment}, {each.ranks} ranks, step {each.step}: {fault}")
    for number, faults in enumerate(ends, 1):
        for fault in faults:
            print(f"FAULT: training {number}: {fault}")
    survived, equal = sum(not each.faults for each in kills), sum(not faults for faults in ends)
    longest = max((each.seconds for each in kills), default=0.0)
    figures = [
        _figure("kills survived", survived, "1", "at_least", len(kills)),
        _figure("trainings that end with the same bits and files", equal, "1", "at_least", len(ends)),
        _figure("longest time from a kill until nothing lives", longest, "s", "at_most", MOST_SECONDS),
    ]
    print(f"\n{survived} of {len(kills)} kills survived; {equal} of {len(ends)} trainings have the same bits and files")
    if json_file:
        write_json_atomic(json_file, {"figures": figures, "machine": provenance()})
    return 0 if all(entry["met"] for entry in figures) else 1


def _figure(name: str, value: float, unit: str, bound: str, aim: float) -> dict:
    met = value >= aim if bound == "at_least" else value <= aim
    return {"name": name, "value": value, "unit": unit, bound: aim, "met": met}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Kill a training at random moments and compare what it ends with.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of what is killed and when")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--directory", type=Path, help="where the trainings lie for a while (default: the system's)")
    return parser.parse_args()


if __name__ == "__main__":
    options = parse()
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        outcome = run_campaign(options.kills, Path(folder), options.seed)
    sys.exit(report(*outcome, options.json))
