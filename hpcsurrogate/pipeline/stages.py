"""The stages of a flow in the order the data walks them: what each reads, writes, and which function does it."""

from typing import Any

from hpcsurrogate.core.config import Experiment, WellSource
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.parallel.world import World
from hpcsurrogate.pipeline.stage import Stage, state_of_files

# The rooms are imported when their stage runs, so that a help text or a dry run need not load torch.


def _files_of_the_user(experiment: Experiment) -> Any:
    source = experiment.simulate
    return state_of_files(source.files) if isinstance(source, WellSource) else None


def _weights_of_the_user(experiment: Experiment) -> Any:
    start = experiment.train.initialise_from
    return state_of_files((start.path,)) if start is not None else None


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
        inputs=_files_of_the_user,
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
        inputs=_weights_of_the_user,
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
        on_ranks=True,
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
