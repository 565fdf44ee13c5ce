"""The command tune: search over keys of an experiment, each trial a training of its own, by one or many processes."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from hpcsurrogate.core.atomic import atomic_path, write_json_atomic
from hpcsurrogate.core.config import Experiment, Train, Tune
from hpcsurrogate.core.errors import ConfigError, RequeueRequested
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import digest, provenance
from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.parallel.world import get_world
from hpcsurrogate.pipeline.consistency import check_consistency
from hpcsurrogate.pipeline.records import read_record, why_stale
from hpcsurrogate.pipeline.runner import run_pipeline
from hpcsurrogate.report.style import figure_style
from hpcsurrogate.study.children import StopSignals
from hpcsurrogate.study.locks import waiting_lock
from hpcsurrogate.study.objectives import Objective, objectives_of
from hpcsurrogate.study.runs import DATA_STAGES
from hpcsurrogate.study.search import JOURNAL, Search
from hpcsurrogate.study.summary import summarise, table
from hpcsurrogate.study.trials import run_trial
from hpcsurrogate.study.tune_figure import tune_figure
from hpcsurrogate.study.tune_keys import check_parameters, flatten, overrides


def tune_experiment(
    file: str | Path,
    changes: Sequence[str] = (),
    trials: int | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Search over the keys of `tune.parameters`, or help a search that is under way, and write what was found.

    Can be started several times at once, on several machines with one file system: all share one search, in
    run_dir/tune/. Trials that a killed process has left behind are taken up from their last checkpoint.

    Parameters
    ----------
    file : str or Path            the experiment, with a section `tune`
    changes : sequence of str     `section.key=value`
    trials : int or None          of the whole search, instead of tune.trials
    say : callable                receives one line at a time

    Raises
    ------
    ConfigError         no section `tune`, a key that cannot be searched over, a folder with another search or on other
                        data, Optuna or matplotlib not installed, or started under several ranks
    RequeueRequested    SIGTERM or SIGUSR1 came; the trial under way is checkpointed
    HpcsurrogateError   for what has nothing to do with the values of a trial, such as a full disk

    Notes
    -----
    Two processes at once do not share a trial, and a killed one loses none (tests/pipeline/test_tune.py).
    """
    if get_world().size > 1:
        raise ConfigError("tune: starts ranks of its own; call it without mpirun or srun, set `ranks` in the file")
    experiment = load_experiment(file, changes)
    tune = _require_tune(experiment, trials)
    folder = RunPaths(experiment.run_dir).run_dir / "tune"
    _make_data(file, changes, experiment, folder, say)
    objectives = objectives_of(tune)
    directions = [objective.direction for objective in objectives]
    search = Search(folder, tune, directions, search_identity(experiment, tune), experiment.seed)
    with StopSignals() as stop:
        _work(search, experiment, tune, trials or tune.trials, objectives, stop, say)
    with waiting_lock(folder / "summary.lock"):
        summary = summarise(search.records(), search.outcomes(), search.front(), objectives)
        write_json_atomic(folder / "tune.json", summary)
        with figure_style(), atomic_path(RunPaths(experiment.run_dir).figures / "tune.png") as temporary:
            tune_figure(summary).savefig(temporary, metadata={"Software": None})
    kept = [change for change in changes if not change.startswith(("tune=", "tune."))]
    for line in table(summary, shlex.join(["hpcsurrogate", "run", str(file), *kept])):
        say(line)


def _work(
    search: Search,
    experiment: Experiment,
    tune: Tune,
    total: int,
    objectives: tuple[Objective, ...],
    stop: StopSignals,
    say: Callable[[str], None],
) -> None:
    """Do trials until there are enough, or none is left that nobody else works on."""
    first = flatten(experiment)
    while True:
        if stop.received:
            raise RequeueRequested("tune: stopped on request; run the same command to go on")
        with search.claim(total, first) as claim:
            if claim is None:
                return
            say(f"trial {claim.number}: {' '.join(overrides(claim.values))}")
            outcome = run_trial(claim, experiment, tune, list(search.outcomes().values()), stop)
            search.finish(claim, outcome.state, outcome.objectives)
            results = ", ".join(
                f"{objective.name} {value:.4g} {objective.unit}".rstrip()
                for objective, value in zip(objectives, outcome.objectives, strict=False)
            )
            say(f"trial {claim.number}: {outcome.state}: {results or outcome.reason}")


def _require_tune(experiment: Experiment, trials: int | None) -> Tune:
    tune = experiment.tune
    if tune is None:
        raise ConfigError("tune: the experiment has no section `tune`; docs/tuning.md shows one")
    if trials is not None and trials < 1:
        raise ConfigError(f"--trials {trials}: give at least 1")
    check_consistency(experiment)
    kinds = [contender.closure.kind for contender in experiment.couple.contenders]
    if tune.objective == "aposteriori" and kinds.count("learned") != 1:
        raise ConfigError("tune.objective: aposteriori needs one contender of kind learned in couple.contenders")
    check_parameters(experiment, tune)
    return tune


def _make_data(
    file: str | Path, changes: Sequence[str], experiment: Experiment, folder: Path, say: Callable[[str], None]
) -> None:
    """Simulate and prepare once for all trials; who comes meanwhile waits.

    Never for a search that has begun: its trials are linked to these files, and may be reading them.
    """
    paths = RunPaths(experiment.run_dir)
    with waiting_lock(folder / "data.lock"):
        stale = {stage.name: reason for stage in DATA_STAGES if (reason := why_stale(stage, experiment, paths))}
        if stale and (folder / JOURNAL).exists():
            name, reason = next(iter(stale.items()))
            raise ConfigError(
                f"{folder}: holds a search, and its data are not what this experiment asks for ({name}: {reason}); "
                "set another run_dir, remove the folder to search anew, or make the data again with "
                "`hpcsurrogate run FILE --until prepare`"
            )
        if stale:
            run_pipeline(file, changes, until=DATA_STAGES[-1].name, say=say)


def search_identity(experiment: Experiment, tune: Tune) -> str:
    """Digest of all that trials must have in common to be compared."""
    paths = RunPaths(experiment.run_dir)
    records = [read_record(stage, paths) for stage in DATA_STAGES]
    return digest(
        {
            "data": [
                record and {name: output["sha256"] for name, output in record["outputs"].items()} for record in records
            ],
            "sections": [experiment.seed, experiment.flow, experiment.host, experiment.prepare, experiment.couple],
            "train": experiment.train.model_dump(mode="json", exclude=Train.OPERATIONAL),
            "tune": tune.model_dump(mode="json", exclude={"trials", "prune"}),
            "version": provenance()["version"],
        }
    )
