"""Price of training the program's way, side by side with a plain torch loop in the same run.

On a small turbulence experiment that it simulates first, for every engine, on 1 and 2 ranks, the program's own loop and
a plain loop (same network, loss and optimizer, batches in memory) take turns of a few steps in the same processes;
what counts is the median of the ratio between neighbouring turns. The steps are those of the first phase, short ones in
which every message shows, and of the unrolled phase, where a training spends most of its time. On 2 ranks the plain
loops run at the same time, each on its own: weak scaling is held against what the machine gives to two independent
processes. A checkpoint's price is the difference between turns with and without one. Then a real training under mpirun
is stopped by SIGUSR1 and started again, with a clock beside it.

    python scripts/bench_training.py --json bench.json
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_loader import CORES, figure, report, run_ranks_script
from fault_jobs import Job

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.config import Train
from hpcsurrogate.core.errors import HpcsurrogateError, RequeueRequested

SAMPLES_A_RANK = 8
CHECKPOINT_EVERY = Train.model_fields["checkpoint_every"].default
EXPERIMENT = {
    "name": "bench",
    "flow": {"viscosity": 0.005, "drag": 0.1, "forcing": {"kind": "kolmogorov", "wavenumber": 4, "amplitude": 1.0}},
    "host": {"kind": "finite_volume", "grid": [64, 64], "time_step": 0.025},
    "simulate": {
        "kind": "dns",
        "grid": [128, 128],
        "realisations": 3,
        "duration": 2.4,
        "snapshot_interval": 0.1,
        "spin_up_coarse": 2.0,
    },
    "prepare": {"split": {"train": [0], "validation": [1], "test": [2]}},
    "train": {
        "model": {"kind": "cnn", "channels": 32, "hidden_layers": 3, "kernel_size": 5},
        "apriori": {"epochs": 100000, "batch_size": SAMPLES_A_RANK},
        "unrolled": {"iterations": 100000, "snapshots": [1]},
        "tensorboard": False,
    },
    "couple": {"duration": 1.0, "contenders": [{"name": "none", "closure": {"kind": "none"}}]},
}


@dataclass(frozen=True)
class Case:
    """One training that takes turns with the plain loop."""

    engine: str
    ranks: int
    exact: bool = False
    phase: str = "apriori"

    @property
    def label(self) -> str:
        ranks = f"{self.ranks} rank{'s' * (self.ranks > 1)}"
        return ", ".join([self.engine, ranks, *["exact"] * self.exact, *["unrolled"] * (self.phase == "unrolled")])

    def steps(self, steps: int) -> int:
        """Steps of a turn, given those of the first phase; an unrolled step takes some thirty times as long."""
        return steps if self.phase == "apriori" else max(1, steps // 10)

    def overrides(self, steps: int) -> list[str]:
        """The experiment's changes. The trainer checkpoints at the beginning of every turn, if the turn is to save."""
        return [
            f"train.engine={self.engine}",
            f"train.exact={str(self.exact).lower()}",
            f"train.{self.phase}.batch_size={SAMPLES_A_RANK * self.ranks}",
            f"train.checkpoint_every={self.steps(steps)}",
        ]


ALL = (
    Case("none", 1), Case("horovod", 1), Case("torch", 1), Case("horovod", 2), Case("torch", 2),
    Case("horovod", 1, exact=True), Case("horovod", 2, exact=True),
    Case("horovod", 1, phase="unrolled"), Case("horovod", 2, phase="unrolled"), Case("torch", 2, phase="unrolled"),
)  # fmt: skip
QUICK = (Case("horovod", 1), Case("horovod", 2), Case("horovod", 2, exact=True))


# --- arithmetic -------------------------------------------------------------------------------------------------------


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median over the rounds of the ratio of neighbouring turns: what slows the machine down slows both."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def checkpoint_percent(result: dict) -> float:
    """Part of the run time that goes into checkpoints at the default train.checkpoint_every [%]."""
    seconds = result["seconds"]
    extra = statistics.median(saving - ours for saving, ours in zip(seconds["saving"], seconds["ours"], strict=True))
    return 100 * extra / (statistics.median(seconds["ours"]) / result["steps"] * CHECKPOINT_EVERY)


def figures_of(results: dict[Case, dict]) -> list[dict]:
    """Step times, prices and efficiencies of what was measured."""
    figures = []
    for case, result in results.items():
        seconds = result["seconds"]
        step = 1e3 * statistics.median(seconds["ours"]) / result["steps"]
        figures.append(figure(f"{case.label}: step", step, "ms"))
        aimed = case.engine == "horovod" and not case.exact
        if case.ranks == 1:
            price = median_ratio(seconds["ours"], seconds["plain"])
            figures.append(figure(f"{case.label}: step / plain torch", price, "1", at_most=1.02 if aimed else None))
        else:
            efficiency = median_ratio(seconds["plain"], seconds["ours"])
            name = f"{case.label}: weak scaling against independent processes"
            figures.append(figure(name, efficiency, "1", at_least=0.95 if aimed else None))
        aim = 1.0 if aimed else None
        figures.append(figure(f"{case.label}: checkpoints, of run time", checkpoint_percent(result), "%", at_most=aim))
    return figures + exact_figures(results)


def exact_figures(results: dict[Case, dict]) -> list[dict]:
    """Step time of exact mode over that without it; both are held against the plain loop of their own process."""
    relative = {case: median_ratio(r["seconds"]["ours"], r["seconds"]["plain"]) for case, r in results.items()}
    pairs = [(case, Case(case.engine, case.ranks, phase=case.phase)) for case in results if case.exact]
    return [
        figure(f"{exact.label} / not exact: step", relative[exact] / relative[other], "1")
        for exact, other in pairs
        if other in relative
    ]


def table(results: dict[Case, dict]) -> list[str]:
    """One line a case."""
    lines = [f"  {'':<24}{'ms a step':>12}{'plain':>9}{'ours / plain':>14}{'checkpoints':>13}"]
    for case, result in results.items():
        seconds, steps = result["seconds"], result["steps"]
        ours, plain = (1e3 * statistics.median(seconds[name]) / steps for name in ("ours", "plain"))
        ratio = median_ratio(seconds["ours"], seconds["plain"])
        lines.append(f"  {case.label:<24}{ours:>12.2f}{plain:>9.2f}{ratio:>14.3f}{checkpoint_percent(result):>11.2f} %")
    return lines


# --- measurements -----------------------------------------------------------------------------------------------------


def prepare(directory: Path) -> Path:
    """Write the experiment, make its data and return its file."""
    path = directory / "bench.yaml"
    write_json_atomic(path, EXPERIMENT | {"run_dir": str(directory / "run")})
    command = [sys.executable, "-m", "hpcsurrogate", "run", str(path), "--until", "prepare"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise HpcsurrogateError(f"the data could not be made:\n{done.stderr}")
    return path


def run_case(case: Case, experiment: Path, steps: int, rounds: int) -> dict:
    """Start the ranks and return what they measured."""
    settings_file, result_file = experiment.with_name("settings.json"), experiment.with_name("result.json")
    settings = {
        "experiment": str(experiment),
        "overrides": case.overrides(steps),
        "phase": case.phase,
        "steps": case.steps(steps),
        "rounds": rounds,
    }
    write_json_atomic(settings_file, settings)
    run_ranks_script("bench_training_ranks.py", case.ranks, [settings_file, result_file], limit=600)
    return read_json(result_file)


def interruption_figures(experiment: Path, repeats: int) -> list[dict]:
    """A real training on 2 ranks: seconds from SIGUSR1 to its end, and from its start to the first step after that."""
    run_dir = experiment.with_name("run")
    overrides = [f"train.apriori.batch_size={2 * SAMPLES_A_RANK}"]
    stops, restarts, step = [], [], 0
    for _ in range(repeats + 1):
        started = time.monotonic()
        job = Job(experiment, run_dir, overrides, ranks=2)
        try:
            job.wait_for_step(step + 1)
            if step:
                restarts.append(time.monotonic() - started)
            job.wait_for_step(step + 5)
            asked = time.monotonic()
            job.process.send_signal(signal.SIGUSR1)
            finished = job.finish()
        finally:
            job.kill()
        if finished.exit_code != RequeueRequested.exit_code:
            raise HpcsurrogateError(f"SIGUSR1: exit code {finished.exit_code}:\n{finished.stderr}")
        stops.append(finished.ended_at - asked)
        step = job.step()
    return [
        figure("SIGUSR1 to exit, 2 ranks", statistics.median(stops), "s"),
        figure("restart to the next step, 2 ranks", statistics.median(restarts), "s", at_most=10.0),
    ]


def run_bench(options: argparse.Namespace) -> int:
    """Measure, print, write; 0 if every aim is met."""
    load = os.getloadavg()[0]
    if load > CORES / 2:
        print(f"note: the load average is {load:.1f} on {CORES} cores; ratios of this run will be uncertain")
    cases, steps, rounds, repeats = (QUICK, 5, 5, 1) if options.quick else (ALL, 10, 10, 5)
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        experiment = prepare(Path(folder))
        results = {case: run_case(case, experiment, steps, rounds) for case in cases}
        print("\n".join(table(results)), flush=True)
        figures = figures_of(results) + interruption_figures(experiment, repeats)
    for entry in figures[-2:]:
        print(f"  {entry['name']}: {entry['value']:.2f} s")
    return report(figures, options.json)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Price of engines, exactness, checkpoints and interruptions.")
    parser.add_argument("--quick", action="store_true", help="Horovod alone and few rounds, under a minute")
    parser.add_argument("--directory", type=Path, help="where the data are written, a few MB (default: TMPDIR)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(run_bench(parse()))
    except HpcsurrogateError as error:
        print(f"bench_training: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
