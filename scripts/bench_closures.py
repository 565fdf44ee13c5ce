"""What learned closures bring inside their solvers, at their price, beside the best classical ways: all the figures.

Each case is an experiment of configs/, walked from the direct simulation to the comparison. What is done is kept in the
directory, so that a second run only reads it. Every figure is a number of couple.json, unseen.json or evaluate.json of
that run, with its 95 % interval over the starts where there is one; the best classical way stands on a line of its own.
Two cases are then run from sixteen starts for 100,000 steps, beside a long record of the same flow.

    python scripts/bench_closures.py --directory runs/closures --json bench.json
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from closure_figures import (
    Figure,
    force_figures,
    forced_2d,
    long_figures,
    sharp_figures,
    spectral_2d,
    stress_figures,
    training_figures,
    turbulence_3d,
)

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.errors import HpcsurrogateError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import provenance
from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.couple.contenders import make_entries
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.stability import run_recorded
from hpcsurrogate.pipeline.runner import run_pipeline

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LONG_STEPS, LONG_STARTS = 100_000, 16


@dataclass(frozen=True)
class Case:
    """An experiment, what makes a smoke test of it, and the figures that are read from its run."""

    experiment: str
    quick: tuple[str, ...]
    figures: Callable[[RunPaths], Iterator[Figure]]
    overrides: tuple[str, ...] = ()
    until: str | None = None  # the last stage; None: all
    data_of: str | None = None  # the case whose fine data these are too
    artifact_of: str | None = None  # the case whose exported closure this one takes as it is
    record: tuple[str, ...] = ()  # of a steady flow, cheap to run: what makes a long record of it


SHORT = (
    "simulate.spin_up_coarse=1.0",
    "simulate.spin_up=0.2",
    "simulate.duration=1.2",
    "train.unrolled.iterations=4",
    "train.unrolled.snapshots=[1]",
    "couple.duration=0.6",
    "couple.starts=2",
    "unseen=[]",
)
SHORT_2D = (
    *SHORT,
    "simulate.grid=[64,64]",
    "host.grid=[32,32]",
    "couple.contenders.4.host.grid=[32,32]",
    "couple.contenders.4.ladder=[48]",
    "couple.contenders.5.host.grid=[32,32]",
    "couple.contenders.5.ladder=[]",
    "couple.ladder=[48]",
)
EIGHT_SNAPSHOTS = (
    "simulate.realisations=3",
    "simulate.duration=0.7",
    "prepare.split={train: [0], validation: [1], test: [2]}",
    "train.unrolled.snapshots=[2,4,7]",
    "couple.duration=0.6",
    "unseen=[]",
)
SHARP = (
    "simulate.grid=[64,64]",
    "simulate.duration=2.0",
    "simulate.spin_up_coarse=1.0",
    "simulate.spin_up=0.2",
)
# Of 16 realisations, 50 s long, the mean spectrum is known to some 3 %. 192^2 points hold both flows.
LONG_RECORD = (
    "simulate.grid=[192,192]",
    f"simulate.realisations={LONG_STARTS}",
    "simulate.duration=50.0",
    "simulate.snapshot_interval=0.5",
    "couple.duration=50.0",
    "couple.ladder=[]",
    "unseen=[]",
)
SHORT_RECORD = ("simulate.grid=[64,64]", "simulate.duration=1.5", "couple.duration=1.0")
CASES = {
    "deconvolution2d": Case("deconvolution2d", SHORT_2D, forced_2d, record=LONG_RECORD),
    "eight_snapshots": Case(
        "deconvolution2d",
        (*SHORT_2D, *EIGHT_SNAPSHOTS),
        training_figures,
        EIGHT_SNAPSHOTS,
        until="train",
    ),
    "forced2d": Case("forced2d", SHORT_2D, forced_2d),
    "calibrated2d": Case(
        "calibrated2d",
        (*SHORT, "simulate.grid=[96,96]", "couple.contenders.1.ladder=[64]"),
        spectral_2d,
        record=LONG_RECORD,
    ),
    "turbulence3d": Case(
        "turbulence3d",
        (
            *SHORT,
            "flow.viscosity=0.02",
            "simulate.grid=[32,32,32]",
            "host.grid=[16,16,16]",
            "couple.contenders.9.host.grid=[16,16,16]",
            "couple.contenders.9.ladder=[24]",
            "couple.contenders.10.host.grid=[16,16,16]",
            "couple.contenders.10.ladder=[]",
            "couple.ladder=[24]",
        ),
        turbulence_3d,
    ),
    "stress2d": Case(
        "stress2d",
        ("simulate.grid=[64,64]", "host.grid=[32,32]", "train.apriori.epochs=2"),
        force_figures,
        until="evaluate",
        data_of="forced2d",
    ),
    "stress3d": Case(
        "stress3d",
        ("simulate.grid=[32,32,32]", "host.grid=[16,16,16]", "train.apriori.epochs=2"),
        stress_figures,
        until="evaluate",
        data_of="turbulence3d",
    ),
    "stress_sharp2d": Case(
        "stress_sharp2d",
        (*SHARP, "train.apriori.epochs=1"),
        partial(sharp_figures, at_least=0.75),
        until="export",
    ),
    "stress_sharp2d_unseen": Case(
        "stress_sharp2d_unseen",
        SHARP,
        partial(sharp_figures, at_least=0.6),
        until="evaluate",
        artifact_of="stress_sharp2d",
    ),
}


def run_case(name: str, case: Case, directory: Path, quick: bool) -> Iterator[Figure]:
    """Walk the experiment, as far as that is not done, and read its figures."""
    run_dir = run_dir_of(name, directory, quick)
    overrides = [*case.overrides, *(case.quick if quick else ()), f"run_dir={run_dir}"]
    if case.artifact_of is not None:
        artifact = RunPaths(run_dir_of(case.artifact_of, directory, quick)).model
        overrides.append(f"train.initialise_from.path={artifact}")
    experiment = CONFIGS / f"{case.experiment}.yaml"
    if case.data_of is not None and not quick:
        share_data(RunPaths(directory / case.data_of), RunPaths(run_dir))
    run_pipeline(experiment, overrides, until=case.until)
    yield from case.figures(RunPaths(run_dir))
    if case.record:
        yield from run_learned_long(RunPaths(run_dir), experiment, case, quick)


def run_dir_of(name: str, directory: Path, quick: bool) -> Path:
    """Where a case is kept."""
    return directory / (f"{name}-quick" if quick else name)


def share_data(theirs: RunPaths, ours: RunPaths) -> None:
    """Link the fine data of another run; whether they fit is for the pipeline to say."""
    if ours.raw.exists() or not theirs.raw.exists():
        return
    shutil.copytree(theirs.raw, ours.raw, copy_function=os.link)
    ours.stages.mkdir(exist_ok=True)
    shutil.copyfile(theirs.stages / "simulate.json", ours.stages / "simulate.json")


def run_learned_long(paths: RunPaths, experiment: Path, case: Case, quick: bool) -> Iterator[Figure]:
    """Make a long record, and run the learned contender from it at the time step that the comparison found for it."""
    run_dir = paths.run_dir.with_name(f"{paths.run_dir.name}-record")
    overrides = (*case.overrides, *case.record, *((*case.quick, *SHORT_RECORD) if quick else ()), f"run_dir={run_dir}")
    run_pipeline(experiment, overrides, until="simulate")
    recorded = load_experiment(experiment, overrides)
    plan = Plan(recorded, RunPaths(run_dir), run_from=tuple(range(recorded.simulate.realisations)))
    entry = next(entry for entry in make_entries(recorded, plan.interval) if entry.role == "learned")
    line = next(line for line in read_json(paths.coupling)["contenders"] if line["name"] == entry.name)
    closure = entry.closure.model_copy(update={"artifact": str(paths.model)})
    entry = replace(entry, closure=closure).with_steps(round(plan.interval / line["host"]["time_step"]), plan.interval)
    steps = LONG_STEPS // 1000 if quick else LONG_STEPS
    print(f"  at least {LONG_STARTS} runs of {steps} steps", flush=True)
    yield from long_figures(*run_recorded(plan, entry, LONG_STARTS, steps), LONG_STARTS)


def run_bench(options: argparse.Namespace) -> int:
    """Run all cases, print their figures, write them; 0 if every aim is met."""
    entries, missed = [], 0
    for name in options.only or CASES:
        print(f"\n{name}", flush=True)
        for figure in run_case(name, CASES[name], options.directory, options.quick):
            print(f"  {figure}", flush=True)
            entries.append(figure.entry() | {"name": f"{name}: {figure.name}"})
            missed += figure.met is False
    if options.json is not None:
        write_json_atomic(options.json, {"figures": entries, "machine": provenance()})
    print(f"\n{missed} of {sum('met' in entry for entry in entries)} aims missed")
    return 1 if missed and not options.quick else 0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Learned closures in their solvers beside the best classical ways.")
    parser.add_argument("--quick", action="store_true", help="small sizes, whose figures mean nothing: a smoke test")
    parser.add_argument("--only", action="append", choices=list(CASES), help="this case alone; may be given again")
    parser.add_argument("--directory", type=Path, default=Path("runs/closures"), help="where the runs are kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(run_bench(parse()))
    except HpcsurrogateError as error:
        print(f"bench_closures: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
