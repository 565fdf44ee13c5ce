"""The command `train` under faults of its checkpoints: what it says, how it ends, and what it resumes to."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpcsurrogate.train.checkpoint import FILES
from hpcsurrogate.train.checkpoint_files import publish_folder, read_folder

LIMIT = 120  # seconds for a training that takes about 5


@pytest.fixture(scope="module", autouse=True)
def _strace():
    if shutil.which("strace") is None:
        pytest.exit("strace is missing, which injects faults into system calls: apt-get install strace", returncode=2)


def train(experiment_file: Path, run_dir: Path, prefix=(), limit_file_size=None) -> SimpleNamespace:
    """`hpcsurrogate train` on one rank, behind a command such as strace; in exact mode ranks do not matter."""

    def limit():
        if limit_file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_file_size, limit_file_size))

    command = [*prefix, sys.executable, "-m", "hpcsurrogate", "train", experiment_file, f"run_dir={run_dir}"]
    # Files of Python's own would meet the limit too.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT, preexec_fn=limit, env=environment, check=False
    )
    errors = [line for line in done.stderr.splitlines() if "error:" in line or "Traceback" in line]
    return SimpleNamespace(exit_code=done.returncode, stderr=done.stderr, errors=errors, ended_at=time.time())


def strace_of(path: Path, injection: str, trace: Path) -> list:
    """The command line of strace that injects into the calls that name one path, whether it exists yet or not."""
    calls = injection.partition(":")[0]
    watch = ["strace", "-f", "-ttt", "-o", trace, "-P", path.resolve()]
    return [*watch, "-e", f"trace={calls}", "-e", f"inject={injection}"]


def time_of_injection(trace: Path) -> float:
    """Seconds since 1970 at which strace injected first."""
    return float(next(line for line in trace.read_text().splitlines() if "(INJECTED)" in line).split()[1])


@pytest.fixture(scope="module")
def interrupted_run(prepared_run, tmp_path_factory) -> Path:
    """A run whose training was killed when it was about to give the checkpoint of step 12 its name."""
    directory = tmp_path_factory.mktemp("interrupted")
    run_dir = prepared_run.copy(directory / "run")
    partial = run_dir / "checkpoints" / ".partial-step-00000012"
    trace = directory / "strace"
    injection = "?rename,?renameat,?renameat2:signal=KILL"
    killed = train(prepared_run.experiment_file, run_dir, strace_of(partial, injection, trace))
    assert killed.exit_code == 6, killed.stderr
    assert partial.is_dir() and not (run_dir / "checkpoints" / "step-00000012").exists()
    return run_dir


def checkpoint_folders(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "checkpoints").glob("step-*"))


@pytest.mark.fault(19, "killed in mid-save and resumed")
def test_a_training_killed_in_mid_save_resumes_to_the_same_weights(
    prepared_run, interrupted_run, reference_weights, weights_of, tmp_path
):
    run_dir = shutil.copytree(interrupted_run, tmp_path / "run")
    resumed = train(prepared_run.experiment_file, run_dir)
    assert resumed.exit_code == 0, resumed.stderr
    assert "resuming from step 8" in resumed.stderr
    assert weights_of(run_dir) == reference_weights


@pytest.mark.fault(21, "torn write: zeros after the rename")
def test_a_torn_checkpoint_is_named_and_training_resumes_from_the_one_before(
    prepared_run, interrupted_run, reference_weights, weights_of, tmp_path
):
    run_dir = shutil.copytree(interrupted_run, tmp_path / "run")
    *_, before, newest = checkpoint_folders(run_dir)
    optimizer = newest / "optimizer.safetensors"
    optimizer.write_bytes(bytes(optimizer.stat().st_size))
    resumed = train(prepared_run.experiment_file, run_dir)
    assert resumed.exit_code == 0, resumed.stderr
    assert f"{newest} is damaged (optimizer.safetensors" in resumed.stderr
    assert f"resuming from step {int(before.name.removeprefix('step-'))}" in resumed.stderr
    assert weights_of(run_dir) == reference_weights


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)


def write_again(folder: Path, without: str | None = None, config_digest: str | None = None) -> None:
    """Write a checkpoint without one of its files or as of another configuration, with a manifest that fits."""
    manifest, contents = read_folder(folder, FILES)
    shutil.rmtree(folder)
    files = [(name, content) for name, content in contents.items() if name != without]
    publish_folder(folder, files, manifest.step, config_digest or manifest.config_digest)


def drop_optimizer(folder: Path) -> None:
    write_again(folder, without="optimizer.safetensors")


def give_to_another_run(folder: Path) -> None:
    write_again(folder, config_digest="0" * 64)


REFUSED = [
    pytest.param(flip_a_bit, "is whole", marks=pytest.mark.fault(22, "bit flipped in all checkpoints of a run")),
    pytest.param(
        give_to_another_run, "was trained with another", marks=pytest.mark.fault(23, "checkpoints of another run")
    ),
    pytest.param(
        drop_optimizer, "is whole", marks=pytest.mark.fault(24, "optimizer missing in all checkpoints of a run")
    ),
]


@pytest.mark.parametrize(("damage", "what"), REFUSED)
def test_a_run_whose_checkpoints_are_all_refused_neither_resumes_nor_begins_anew(
    prepared_run, interrupted_run, tmp_path, fault, damage, what
):
    run_dir = shutil.copytree(interrupted_run, tmp_path / "run")
    for folder in checkpoint_folders(run_dir):
        damage(folder)
    metrics = (run_dir / "metrics.jsonl").read_bytes()
    started = time.time()
    refused = train(prepared_run.experiment_file, run_dir)
    assert refused.exit_code == 5, refused.stderr
    (error,) = refused.errors
    assert what in error and f"{run_dir}/checkpoints" in error and "to train anew" in error
    assert (run_dir / "metrics.jsonl").read_bytes() == metrics
    fault.exited(refused.ended_at - started)


@pytest.mark.fault(26, "background save fails")
def test_a_failed_background_save_ends_the_training_before_the_next_one(
    prepared_run, reference_weights, weights_of, tmp_path, fault
):
    run_dir = prepared_run.copy(tmp_path / "run")
    file = run_dir / "checkpoints" / ".partial-step-00000008" / "best.safetensors"
    trace = tmp_path / "strace"
    failed = train(prepared_run.experiment_file, run_dir, strace_of(file, "fsync:error=EIO", trace))
    assert failed.exit_code == 3, failed.stderr
    (error,) = failed.errors
    assert f"{run_dir}/checkpoints/step-00000008/best.safetensors: the disk could not read or write (EIO)" in error
    last = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert 8 <= last <= 12  # the next step that looks, or at the latest the next save, of step 12
    assert checkpoint_folders(run_dir)[-1].name == "step-00000004"
    resumed = train(prepared_run.experiment_file, run_dir)
    assert resumed.exit_code == 0, resumed.stderr
    assert weights_of(run_dir) == reference_weights
    fault.exited(failed.ended_at - time_of_injection(trace))


@pytest.mark.fault(20, "files may not grow any more, and training is resumed")
def test_a_limit_on_files_leaves_the_old_checkpoint(prepared_run, reference_weights, weights_of, tmp_path):
    """The first checkpoint, of step 0, has no optimizer yet: with it the next one is larger than the limit."""
    run_dir = prepared_run.copy(tmp_path / "run")
    failed = train(prepared_run.experiment_file, run_dir, limit_file_size=6 * 1024)
    assert failed.exit_code == 3, failed.stderr
    (error,) = failed.errors
    assert "/checkpoints/step-00000004/optimizer.safetensors: larger than files may be here (EFBIG)" in error
    assert [folder.name for folder in (run_dir / "checkpoints").iterdir()] == ["step-00000000"]
    resumed = train(prepared_run.experiment_file, run_dir)
    assert resumed.exit_code == 0, resumed.stderr
    assert weights_of(run_dir) == reference_weights
