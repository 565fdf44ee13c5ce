"""The stages in the order the data walks them: what each reads from the experiment, writes, and which function does it.

Every stage depends on the one before it, so a stage need only name the sections that enter with it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.parallel.world import World

Work = Callable[[Experiment, RunPaths, World], None]


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes
    ----------
    name : str               name of the subcommand
    summary : str            one line for people
    sections : tuple of str  fields of the Experiment that change its result
    outputs : tuple of str   properties of RunPaths; a folder stands for all files in it
    work : callable          (experiment, paths, world) -> None
    on_ranks : bool          `run` starts it on the experiment's number of ranks
    fresh_process : bool     `run` starts it in a process of its own
    progress : tuple of str  properties of RunPaths from which an interrupted attempt goes on
    optional : tuple of str  outputs that it writes for some experiments only
    idle_without : str       a section that may be empty; then there is next to nothing to do
    """

    name: str
    summary: str
    sections: tuple[str, ...]
    outputs: tuple[str, ...]
    work: Work
    on_ranks: bool = False
    fresh_process: bool = False
    progress: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    idle_without: str | None = None

    def is_idle(self, experiment: Experiment) -> bool:
        """Whether the experiment gives it next to nothing to do."""
        return self.idle_without is not None and not getattr(experiment, self.idle_without)

    def output_files(self, paths: RunPaths) -> list[Path]:
        """Return the files there are now under the stage's outputs, sorted; a missing file is simply not among them.

        What is hidden, or lies in a hidden folder, is a stage's own business.
        """
        files: list[Path] = []
        for name in self.outputs + self.optional:
            path: Path = getattr(paths, name)
            found = path.rglob("*") if path.is_dir() else [path]
            files += [file for file in found if file.is_file() and not _is_hidden(file.relative_to(path))]
        return sorted(files)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


# The rooms are imported when their stage runs, so that a help text or a dry run need not load torch.


def _simulate(experiment: Experiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.data.record import run_simulate

    run_simulate(experiment, paths, world)


def _prepare(experiment: Experiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.data.prepare import run_prepare

    run_prepare(experiment, paths, world)


def _train(experiment: Experiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.train.stage import run_train

    run_train(experiment, paths, world)


def _evaluate(experiment: Experiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.evaluate.stage import run_evaluate

    run_evaluate(experiment, paths, world)


def _export(experiment: Experiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.export.stage import run_export

    if world.rank == 0:
        run_export(experiment, paths)


def _verify(experiment: Experiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.export.stage import run_verify

    if world.rank == 0:
        run_verify(experiment, paths)


def _couple(experiment: Experiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.couple.stage import run_couple

    run_couple(experiment, paths, world)


def _generalise(experiment: Experiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.couple.unseen import run_generalise

    run_generalise(experiment, paths, world)


def _certify(experiment: Experiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.export.certify import run_certify

    if world.rank == 0:
        run_certify(experiment, paths)


def _report(experiment: Experiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.report.stage import run_report

    if world.rank == 0:
        run_report(experiment, paths)


STAGES: tuple[Stage, ...] = (
    Stage(
        "simulate",
        "record fine data, or ingest your own",
        ("seed", "flow", "simulate"),
        ("raw",),
        _simulate,
        on_ranks=True,
    ),
    Stage(
        "prepare",
        "filter the fine data to pairs on the coarse grid",
        ("host", "prepare"),
        ("prepared",),
        _prepare,
        on_ranks=True,
    ),
    Stage(
        "train",
        "train the closure on the pairs, then through the host",
        ("train",),
        ("weights", "metrics"),
        _train,
        on_ranks=True,
        progress=("checkpoints", "metrics", "tensorboard"),
    ),
    Stage("evaluate", "score the closure on filtered fine data (a-priori)", (), ("evaluation",), _evaluate),
    Stage(
        "export",
        "write the TorchScript artifact",
        ("name", "export"),
        ("model", "model_manifest", "model_card", "parity"),
        _export,
        optional=("pointwise", "compiled", "pointwise_compiled", "exported_weights"),
    ),
    Stage(
        "verify", "load the artifact in a fresh process and compare", (), ("verification",), _verify, fresh_process=True
    ),
    Stage(
        "couple",
        "run the closure inside the coarse solver (a-posteriori)",
        ("couple",),
        ("coupling", "coupling_fields"),
        _couple,
    ),
    Stage(
        "generalise",
        "run all contenders on flows that training never saw",
        ("unseen",),
        ("unseen",),
        _generalise,
        on_ranks=True,
        idle_without="unseen",
    ),
    Stage(
        "certify",
        "write the artifact again with the verdict in its certificate",
        (),
        ("certified", "certified_manifest", "certified_card"),
        _certify,
    ),
    Stage("report", "plots, tables and one HTML page with the verdict", (), ("figures", "report"), _report),
)

STAGE_NAMES: tuple[str, ...] = tuple(stage.name for stage in STAGES)


def stage_index(name: str) -> int:
    """Return the position of a stage.

    Raises
    ------
    ConfigError    if there is no such stage
    """
    if name not in STAGE_NAMES:
        raise ConfigError(f"stage '{name}' does not exist; the stages are {', '.join(STAGE_NAMES)}")
    return STAGE_NAMES.index(name)
