"""Which jobs are rendered, what stands in them, and when nothing is submitted. Here SLURM is a few lines of shell."""

import subprocess

import pytest

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.pipeline import records
from hpcsurrogate.pipeline.jobs import queued_jobs, record_jobs, submitted_jobs
from hpcsurrogate.pipeline.lock import run_lock
from hpcsurrogate.pipeline.stages import STAGES
from hpcsurrogate.pipeline.submit import GROUPS, missing_groups, render_job, submit_experiment

STAGE_NAMES = tuple(stage.name for stage in STAGES)

SBATCH = """\
#!/bin/sh
echo "$@" >> {folder}/calls
[ "$(wc -l < {folder}/calls)" = "{refused}" ] && {{ echo "sbatch: error: invalid partition" >&2; exit 1; }}
echo "$((40 + $(wc -l < {folder}/calls)));desk"
"""


class FakeSlurm:
    """sbatch numbers jobs from 41 on and notes how it was called; squeue prints a text; scancel notes its arguments."""

    def __init__(self, folder):
        self.folder = folder
        self.program("sbatch", SBATCH.format(folder=folder, refused=""))
        self.program("scancel", f'#!/bin/sh\necho "$@" > {folder}/cancelled\n')
        self.shows("")

    def program(self, name, text):
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def shows(self, lines):
        self.program("squeue", f"#!/bin/sh\ncat <<END\n{lines}\nEND\n")

    def calls(self):
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return FakeSlurm(folder)


@pytest.fixture
def lines():
    return []


def finish(experiment, paths, names):
    """Leave what these stages would leave."""
    for stage in STAGES:
        if stage.name not in names:
            continue
        records.record_start(stage, experiment, paths)
        for output in stage.outputs:
            path = getattr(paths, output)
            if path.suffix:
                path.write_text(stage.name)
            else:
                path.mkdir(exist_ok=True)
                (path / "file").write_text(stage.name)
        records.record_end(stage, experiment, paths, seconds=1.0, ranks=1)


def test_the_groups_are_the_stages_in_order():
    assert tuple(name for group in GROUPS for name in group.stages) == STAGE_NAMES


def test_only_missing_groups_are_submitted_each_after_the_one_before(experiment_file, experiment, paths, slurm, lines):
    finish(experiment, paths, ("simulate", "prepare"))
    submit_experiment(experiment_file, (), say=lines.append)
    folder = paths.run_dir / "slurm"
    assert slurm.calls() == [
        f"--parsable {folder}/train.sbatch",
        f"--parsable --dependency=afterok:41 --kill-on-invalid-dep=yes {folder}/score.sbatch",
    ]
    assert submitted_jobs(paths) == {"train": "41", "score": "42"}
    assert lines[:2] == ["train  job 41", "score  job 42, afterok:41"]


def test_what_the_jobs_do_is_settled_when_they_are_submitted(experiment_file, paths, slurm):
    submit_experiment(experiment_file, ("train.gradient_clip=0.5",))
    experiment_file.write_text("changed: yes")
    settled = load_experiment(paths.run_dir / "slurm" / "experiment.yaml")
    assert settled.train.gradient_clip == 0.5
    assert "slurm/experiment.yaml --until prepare" in (paths.run_dir / "slurm" / "data.sbatch").read_text()


def test_nothing_missing_nothing_submitted(experiment_file, experiment, paths, slurm, lines):
    finish(experiment, paths, STAGE_NAMES)
    submit_experiment(experiment_file, (), say=lines.append)
    assert lines == [f"{experiment.run_dir}: everything is up to date"]
    assert not (slurm.folder / "calls").exists()


def test_a_damaged_output_is_missing_with_all_that_follow(experiment, paths):
    finish(experiment, paths, STAGE_NAMES)
    paths.weights.write_text("something else")
    assert [group.name for group in missing_groups(experiment, paths)] == ["train", "score"]


def test_the_dry_run_prints_the_scripts_and_writes_nothing(experiment_file, paths, slurm, lines):
    submit_experiment(experiment_file, (), dry_run=True, say=lines.append)
    assert [line.splitlines()[0] for line in lines] == [
        f"# --- {paths.run_dir}/slurm/data.sbatch",
        f"# --- {paths.run_dir}/slurm/train.sbatch, after data has ended with exit code 0",
        f"# --- {paths.run_dir}/slurm/score.sbatch, after train has ended with exit code 0",
    ]
    assert not paths.run_dir.exists()
    assert not (slurm.folder / "calls").exists()


def test_a_script_holds_what_the_experiment_asks_for(experiment_file, paths):
    overrides = (
        "ranks=2",
        "threads_per_rank=3",
        "train.engine=torch",
        "slurm.nodes=2",
        "slurm.time=1-0",
        "slurm.partition=fast",
        "slurm.account=ours",
        "slurm.gpus_per_rank=1",
        "slurm.modules=[gcc, openmpi]",
        "slurm.setup=['source .venv/bin/activate']",
        "slurm.options=['--qos=long']",
    )
    experiment = load_experiment(experiment_file, overrides)
    data, train, score = (render_job(group, experiment, paths).splitlines() for group in GROUPS)
    for line in ("--nodes=2", "--ntasks=2", "--cpus-per-task=3", "--time=1-0", "--partition=fast", "--account=ours",
                 "--qos=long", "--gpus-per-task=1", "--requeue", "--signal=B:USR1@120"):  # fmt: skip
        assert f"#SBATCH {line}" in train
    assert train.index("module load gcc openmpi") < train.index("source .venv/bin/activate")
    for script in (data, score):
        assert "#SBATCH --gpus-per-task=1" not in script
    assert "#SBATCH --nodes=2" in score
    assert "#SBATCH --ntasks=2" in score


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_a_script_is_correct_shell_with_nothing_left_to_fill_in(group, experiment, paths):
    script = render_job(group, experiment, paths)
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).stderr == ""
    assert "@" not in script.replace("B:USR1@120", "")


def run_script(script, folder, run, state="RUNNING None", **variables):
    """Do a batch script with these lines of shell for the run, and a scontrol that prints what it is told.

    `state` is what squeue says of the job when the run is over.
    """
    command = next(line for line in script.splitlines() if " -m hpcsurrogate run " in line)
    script = script.replace(command.partition(" -m ")[0], str(folder / "run"))
    for name, text in (("run", run), ("scontrol", 'echo "$@"'), ("squeue", f"echo {state}")):
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_JOB_ID": "7"} | variables
    return subprocess.run(["bash"], input=script, env=environment, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    "exit_code, restarts, requeued",
    [
        (0, 0, False),
        (2, 0, False),
        (4, 0, False),
        (75, 0, True),
        (75, 99, True),
        (6, 0, True),
        (6, 2, True),
        (6, 3, False),
    ],
)
def test_the_job_goes_back_into_the_queue_when_it_should(exit_code, restarts, requeued, experiment, paths, tmp_path):
    """75 always (the training counts these), a lost rank at most max_requeues times, anything else never."""
    script = render_job(GROUPS[1], experiment, paths)
    done = run_script(script, tmp_path, f"sleep 0.1\nexit {exit_code}", SLURM_RESTART_COUNT=str(restarts))
    assert done.returncode == exit_code
    assert ("requeue 7" in done.stdout) == requeued


@pytest.mark.parametrize("state, requeued", [("COMPLETING None", False), ("COMPLETING TimeLimit", True)])
def test_a_job_that_was_cancelled_stays_so(state, requeued, experiment, paths, tmp_path):
    """These are SLURM's words while a job ends, for scancel and for its time limit."""
    done = run_script(render_job(GROUPS[1], experiment, paths), tmp_path, "exit 75", state)
    assert ("requeue 7" in done.stdout) == requeued


def test_the_signal_for_the_job_reaches_the_run_and_its_exit_code_is_kept(experiment, paths, tmp_path):
    """The run signals its parent, the job's script, as SLURM does, until it is signalled itself and ends with 75."""
    run = "trap 'exit 75' USR1\nwhile :; do kill -USR1 $PPID; sleep 0.02; done"
    done = run_script(render_job(GROUPS[1], experiment, paths), tmp_path, run)
    assert done.returncode == 75
    assert "requeue 7" in done.stdout


def test_a_run_directory_with_a_job_in_the_queue_is_refused(experiment_file, paths, slurm):
    record_jobs(paths, {"train": "17", "score": "18"})
    slurm.shows("17|RUNNING|node0\n18|PENDING|(Dependency)")
    with pytest.raises(ConfigError, match=r"job 17 \(train\) is running already; .*scancel 17"):
        submit_experiment(experiment_file)
    assert not (slurm.folder / "calls").exists()


def test_jobs_that_are_over_are_in_nobody_s_way(experiment_file, paths, slurm):
    record_jobs(paths, {"train": "17", "score": "18"})
    slurm.shows("17|FAILED|NonZeroExitCode\n18|CANCELLED|Dependency")
    submit_experiment(experiment_file)
    assert len(slurm.calls()) == 3


def test_a_job_that_slurm_has_forgotten_is_over(paths, slurm):
    record_jobs(paths, {"train": "17"})
    slurm.program("squeue", "#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n")
    assert queued_jobs(paths) == []


def test_a_slurm_that_does_not_answer_is_no_empty_queue(experiment_file, paths, slurm):
    record_jobs(paths, {"train": "17"})
    slurm.program("squeue", "#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    with pytest.raises(ConfigError, match="squeue: Unable to contact"):
        submit_experiment(experiment_file)
    assert not (slurm.folder / "calls").exists()


def test_without_slurm_the_way_to_try_it_is_named(experiment_file, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="sbatch: not on PATH; .*local_slurm.sh start"):
        submit_experiment(experiment_file)


def test_a_chain_that_is_refused_in_part_leaves_no_job(experiment_file, slurm):
    slurm.program("sbatch", SBATCH.format(folder=slurm.folder, refused="3"))
    with pytest.raises(ConfigError, match="invalid partition"):
        submit_experiment(experiment_file)
    assert (slurm.folder / "cancelled").read_text().split() == ["41", "42"]


def test_a_command_that_works_in_the_run_directory_is_named(experiment_file, paths, slurm):
    with run_lock(paths), pytest.raises(ConfigError, match="is working here"):
        submit_experiment(experiment_file)


def test_more_nodes_than_ranks_are_refused(experiment_file):
    with pytest.raises(ConfigError, match="slurm.nodes: 2 is more than ranks: 1"):
        submit_experiment(experiment_file, ("slurm.nodes=2",))


def test_a_path_that_no_batch_script_can_name_is_refused(experiment, tmp_path):
    with pytest.raises(ConfigError, match="quotes"):
        render_job(GROUPS[0], experiment, RunPaths(tmp_path / 'a "run"'))
