import json
import os
import subprocess
import sys
import textwrap

import pytest

from hpcsurrogate.core import errors
from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.parallel.world import World
from hpcsurrogate.pipeline import kinds, records, runner
from hpcsurrogate.pipeline.lock import run_lock
from hpcsurrogate.pipeline.runner import execute_stage, run_pipeline
from hpcsurrogate.pipeline.stage import Stage


def run(small, *arguments, **options):
    """Run the pipeline; return which stages were done and what was said."""
    small.done.clear()
    said = []
    run_pipeline(*arguments, say=said.append, **options)
    return list(small.done), said


def test_second_run_does_nothing(small, experiment_file, paths):
    done, said = run(small, experiment_file)
    assert done == ["simulate", "train", "couple"]
    assert said[-2:] == [f"report: {paths.report}", "It helped: yes."]
    done, said = run(small, experiment_file)
    assert done == []
    assert said[:3] == ["simulate   up to date", "train      up to date", "couple     up to date"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("couple.starts=7", ["couple"]),
        ("train.gradient_clip=0.5", ["train", "couple"]),
        ("flow.viscosity=2e-3", ["simulate", "train", "couple"]),
        ("threads_per_rank=3", []),
    ],
)
def test_a_changed_section_is_done_again_with_all_after_it(small, experiment_file, override, expected):
    run(small, experiment_file)
    done, _ = run(small, experiment_file, [override])
    assert done == expected


def test_a_new_version_of_the_package_does_everything_again(small, experiment_file, monkeypatch):
    run(small, experiment_file)
    monkeypatch.setattr("hpcsurrogate.__version__", "99.0")
    assert run(small, experiment_file)[0] == ["simulate", "train", "couple"]


@pytest.mark.parametrize("damage", ["remove", "truncate", "one byte, same size"])
def test_a_damaged_output_is_made_again(small, experiment_file, paths, damage):
    run(small, experiment_file)
    shard = paths.raw / "realisation-0000.hdf5"
    text = shard.read_text()
    if damage == "remove":
        shard.unlink()
    else:
        shard.write_text(text[:-1] + ("" if damage == "truncate" else "9"))
    # The same file comes out again, so what was made from it still holds.
    assert run(small, experiment_file)[0] == ["simulate"]
    assert shard.read_text() == text


def test_a_touched_output_is_not_made_again(small, experiment_file, paths):
    run(small, experiment_file)
    os.utime(paths.weights, (0, 0))
    assert run(small, experiment_file)[0] == []


def test_from_and_until(small, experiment_file):
    run(small, experiment_file)
    assert run(small, experiment_file, start="train")[0] == ["train", "couple"]
    assert run(small, experiment_file, start="train", until="train")[0] == ["train"]
    assert run(small, experiment_file, ["flow.viscosity=3e-3"], until="simulate")[0] == ["simulate"]
    with pytest.raises(errors.ConfigError, match="--from couple comes after --until train"):
        run(small, experiment_file, start="couple", until="train")
    with pytest.raises(
        errors.ConfigError,
        match="stage 'trian' does not exist for this kind of file; its stages are simulate, train, couple",
    ):
        run(small, experiment_file, until="trian")


def test_from_refuses_to_build_on_what_is_not_there(small, experiment_file):
    with pytest.raises(errors.DataError, match="stage simulate is needed first .not done yet."):
        run(small, experiment_file, start="train")
    run(small, experiment_file)
    with pytest.raises(errors.DataError, match="experiment or input changed"):
        run(small, experiment_file, ["flow.viscosity=2e-3"], start="train")


def test_dry_run_writes_nothing_and_foresees_what_follows(small, experiment_file, paths):
    done, said = run(small, experiment_file, dry_run=True)
    assert done == [] and not paths.run_dir.exists()
    assert all("would run: not done yet" in line for line in said) and len(said) == 3
    run(small, experiment_file)
    done, said = run(small, experiment_file, ["train.gradient_clip=0.5"], dry_run=True)
    assert done == []
    assert said[0].endswith("up to date")
    assert "would run: experiment or input changed" in said[1]
    assert "would run: a stage before it" in said[2]


def test_an_interrupted_stage_goes_on_and_a_changed_one_starts_afresh(small, experiment_file, paths):
    def attempts():
        return len(list(paths.checkpoints.iterdir()))

    small.failure = errors.RequeueRequested("stop")
    for expected in (1, 2):  # the second attempt finds the checkpoint of the first
        with pytest.raises(errors.RequeueRequested):
            run(small, experiment_file)
        assert attempts() == expected
    assert not json.loads((paths.stages / "train.json").read_text())["finished"]
    small.failure = None
    run(small, experiment_file, ["train.gradient_clip=0.5"])
    assert attempts() == 1
    assert len(list(paths.checkpoints.with_name("checkpoints.previous").iterdir())) == 2
    run(small, experiment_file, ["train.gradient_clip=0.5"], start="train")
    assert attempts() == 1


def test_resolved_configuration_is_kept(small, experiment_file, experiment, paths):
    run(small, experiment_file)
    assert load_experiment(paths.config) == experiment


def test_a_stage_alone_writes_its_record_and_wants_the_one_before(small, experiment, paths):
    with pytest.raises(errors.DataError, match="hpcsurrogate simulate FILE"):
        execute_stage("train", experiment, World())
    execute_stage("simulate", experiment, World())
    execute_stage("train", experiment, World())
    assert records.why_stale(kinds.STAGES[1], experiment, paths) is None
    record = json.loads((paths.stages / "train.json").read_text())
    assert record["ranks"] == 1 and set(record["outputs"]) == {"weights.safetensors"}


def test_a_stage_that_forgets_its_output_is_not_done(small, experiment, paths, monkeypatch):
    lazy = Stage("simulate", "", ("flow",), ("raw",), lambda *_: None)
    monkeypatch.setattr(kinds, "STAGES", (lazy,))
    with pytest.raises(errors.DataError, match="ended without writing it"):
        execute_stage("simulate", experiment, World())
    assert records.why_stale(lazy, experiment, paths) == "was interrupted"


def test_damaged_record_is_named(small, experiment_file, paths):
    run(small, experiment_file)
    (paths.stages / "train.json").write_text('{"stage": "couple"}')
    with pytest.raises(errors.DataError, match="train.json: is no record of stage train"):
        run(small, experiment_file)


def test_two_runs_in_one_directory_refuse_each_other(small, experiment_file, experiment, paths):
    with run_lock(paths):
        with pytest.raises(errors.ConfigError, match=f"process {os.getpid()} on .* is working here"):
            run(small, experiment_file)
        with pytest.raises(errors.ConfigError, match="is working here"):
            execute_stage("simulate", experiment, World())
        execute_stage("simulate", experiment, World(), locked=True)
    assert run(small, experiment_file)[0] == ["train", "couple"]


def test_a_killed_run_blocks_nobody(paths):
    script = f"""
        import os, signal
        from hpcsurrogate.core.paths import RunPaths
        from hpcsurrogate.pipeline.lock import run_lock
        with run_lock(RunPaths({str(paths.run_dir)!r})):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert killed.returncode == -9 and paths.lock.exists()
    with run_lock(paths):
        pass


def test_run_under_a_launcher_is_refused(small, experiment_file, monkeypatch):
    monkeypatch.setattr(runner, "get_world", lambda: World(rank=0, size=2))
    with pytest.raises(errors.ConfigError, match="run: starts its own ranks"):
        run(small, experiment_file)


@pytest.mark.parametrize(
    ("exit_code", "kind"),
    [
        (1, errors.HpcsurrogateError),
        (2, errors.ConfigError),
        (3, errors.DataError),
        (4, errors.DivergedError),
        (5, errors.ModelRefusedError),
        (6, errors.RankLostError),
        (14, errors.RankLostError),  # Open MPI's, of a rank that lost its neighbour
        (75, errors.RequeueRequested),
        (137, errors.RankLostError),
        (-9, errors.RankLostError),
    ],
)
def test_exit_code_of_a_stage_becomes_that_of_the_run(
    small, experiment_file, experiment, paths, monkeypatch, exit_code, kind
):
    calls = []

    def failing_ranks(arguments, ranks, threads):
        calls.append((arguments, ranks, threads))
        return exit_code

    first, *others = kinds.STAGES
    on_ranks = Stage(first.name, "", first.sections, first.outputs, first.work, on_ranks=True)
    monkeypatch.setattr(kinds, "STAGES", (on_ranks, *others))
    monkeypatch.setattr(runner, "run_ranks", failing_ranks)
    with pytest.raises(errors.HpcsurrogateError, match="simulate") as caught:
        run(small, experiment_file, ["ranks=2", "threads_per_rank=3", "train.engine=horovod"])
    assert type(caught.value) is kind
    assert calls == [(["simulate", str(paths.config), "--locked"], 2, 3)]


@pytest.mark.parametrize("start", [None, "simulate"])
def test_ranks_that_were_never_launched_are_not_taken_for_done(small, experiment_file, paths, monkeypatch, start):
    """srun gives 0 when SLURM could not launch the tasks; a record of an earlier run (`--from`) must not hide that."""
    if start:
        run(small, experiment_file)
    first, *others = kinds.STAGES
    on_ranks = Stage(first.name, "", first.sections, first.outputs, first.work, on_ranks=True)
    monkeypatch.setattr(kinds, "STAGES", (on_ranks, *others))
    monkeypatch.setattr(runner, "run_ranks", lambda arguments, ranks, threads: 0)
    with pytest.raises(errors.RankLostError, match="simulate: exit code 0, but its ranks never ran to the end"):
        run(small, experiment_file, ["ranks=2", "train.engine=horovod"], start=start)
    assert small.done == []
