"""Bad input through the whole command: one clear line, the exit code, nothing half-written under a final name.

What each room refuses is tested with the room; here it counts that the line reaches the user and that files stay whole.
"""

import json
import os
from pathlib import Path

import pytest

SOLO = ("ranks=1", "train.engine=none")  # one process: no launcher between the fault and the user
THREE = ("simulate.realisations=3", "prepare.split={train: [0], validation: [1], test: [2]}")


def assert_one_line(finished, exit_code, *expected, stage=None):
    """One error line with all expected words, no traceback; `run` adds a line that names the stage that ended."""
    assert finished.exit_code == exit_code, finished.stderr
    lines = finished.errors
    if stage:
        assert f"stage {stage} ended with exit code {exit_code}" in lines.pop()
    assert len(lines) == 1, finished.stderr
    assert lines[0].startswith("hpcsurrogate: error: ")
    for words in expected:
        assert words in lines[0]


def assert_nothing_half_written(run_dir: Path, stage: str, *absent: str):
    """None of the named files is there, no temporary one is left, and the record says that the stage is not done."""
    for name in (*absent, "**/.partial-*.*"):
        assert not list(run_dir.glob(name)), name
    assert not json.loads((run_dir / "stages" / f"{stage}.json").read_text())["finished"]


def flip_byte(path: Path, keep_time: bool) -> None:
    """Change one byte in the middle; with `keep_time` as a failing disk does it, unseen by size and time."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("viscosity: 5e-3", "viscosty: 5e-3"), ("flow.viscosty: unknown key", "did you mean 'viscosity'?")),
        (("grid: [64, 64]", "grid: [64, sixty-four]"), ("simulate.grid.1: must be a whole number",)),
        (("duration: 2.0", "duration: -2.0"), ("simulate.duration: must be greater than 0, not -2.0",)),
        (("kind: quadratic_stencil", "kind: quadratic_stensil"), ("train.model", "did you mean 'quadratic_stencil'?")),
    ],
)
def test_wrong_key_type_or_value(smoke, command, tmp_path, change, expected):
    good, wrong = change
    text = smoke.config.read_text().replace("run_dir: runs/smoke", f"run_dir: {tmp_path / 'run'}")
    assert text.count(good) == 1
    line_number = text[: text.index(good)].count("\n") + 1
    path = tmp_path / "experiment.yaml"
    path.write_text(text.replace(good, wrong))
    assert_one_line(command("run", path), 2, f"{path}:{line_number}:", *expected)
    assert list(tmp_path.iterdir()) == [path]


def test_missing_shard(smoke, command, tmp_path):
    run_dir = smoke.copy(tmp_path / "run")
    (run_dir / "raw" / "realisation-0002-000000.hdf5").unlink()
    finished = command("prepare", smoke.config, f"run_dir={run_dir}")
    assert_one_line(finished, 3, "raw/realisation-0002-000000.hdf5", "stage simulate is needed first")
    finished = command("check", run_dir)
    assert_one_line(finished, 3, "1 finding(s)")
    assert "realisation-0002-000000.hdf5: file is missing" in finished.stdout


@pytest.mark.parametrize(
    ("shard", "stage", "ranks", "fault"),
    [
        ("raw/realisation-0003-000000.hdf5", "couple", 0, "SHA-256 differs from the catalogue"),
        ("prepared/realisation-0001-000000.hdf5", "train", 2, "the Fletcher-32 checksum does not match"),
    ],
)
def test_a_byte_that_rotted_on_the_disk(smoke, command, tmp_path, shard, stage, ranks, fault):
    run_dir = smoke.copy(tmp_path / "run")
    flip_byte(run_dir / shard, keep_time=True)
    results = {name: (run_dir / name).read_bytes() for name in ("weights.safetensors", "couple.json", "couple.npz")}
    finished = command(stage, smoke.config, f"run_dir={run_dir}", ranks=ranks)
    assert_one_line(finished, 3, f"{run_dir / shard}: ", fault)
    assert {name: (run_dir / name).read_bytes() for name in results} == results


def test_a_damaged_shard_is_made_again_by_run_or_named_by_a_stage(smoke, command, tmp_path):
    run_dir = smoke.copy(tmp_path / "run")
    flip_byte(run_dir / "raw" / "realisation-0000-000000.hdf5", keep_time=False)
    finished = command("prepare", smoke.config, f"run_dir={run_dir}")
    assert_one_line(finished, 3, "raw/realisation-0000-000000.hdf5 changed", "stage simulate is needed first")
    finished = command("run", smoke.config, f"run_dir={run_dir}", "--dry-run")
    assert finished.exit_code == 0
    assert finished.stdout.startswith("simulate   would run on 2 ranks: raw/realisation-0000-000000.hdf5 changed")


def test_more_ranks_than_shards(smoke, command, tmp_path):
    run_dir = tmp_path / "run"
    finished = command("run", smoke.config, f"run_dir={run_dir}", "ranks=8", "train.unrolled.batch_size=8")
    assert_one_line(finished, 2, "ranks: 8 is more than simulate.realisations: 4")
    assert not run_dir.exists()
    finished = command("simulate", smoke.config, f"run_dir={run_dir}", *THREE, ranks=4)
    assert_one_line(finished, 2, "rank 0: too many ranks for the shards: 4 ranks, 3 realisations")
    assert_nothing_half_written(run_dir, "simulate", "raw/*")


def test_no_room_for_a_shard(smoke, command, tmp_path):
    """A limit on file sizes ends a write where a full disk does, in the same calls, for root and for everybody."""
    run_dir = tmp_path / "run"
    finished = command("simulate", smoke.config, f"run_dir={run_dir}", *SOLO, largest_file=200_000)
    assert_one_line(finished, 3, f"{run_dir}/raw/realisation-0000-000000.hdf5: larger than files may be here")
    assert_nothing_half_written(run_dir, "simulate", "raw/*")


@pytest.mark.parametrize(
    ("stage", "largest_file", "results"),
    [
        ("train", 7_000, ("weights.safetensors",)),
        ("couple", 20_000, ("couple.json", "couple.npz")),
        ("report", 100_000, ("report.html",)),
    ],
)
def test_no_room_for_results_leaves_the_old_ones(smoke, command, tmp_path, stage, largest_file, results):
    run_dir = smoke.copy(tmp_path / "run")
    before = {name: (run_dir / name).read_bytes() for name in results}
    finished = command(stage, smoke.config, f"run_dir={run_dir}", "ranks=1", largest_file=largest_file)
    assert_one_line(finished, 3, "larger than files may be here")
    assert {name: (run_dir / name).read_bytes() for name in results} == before
    assert_nothing_half_written(run_dir, stage)


def test_time_step_beyond_the_cfl_limit(smoke, command, tmp_path):
    run_dir = tmp_path / "run"
    # On one rank: another that is ended in the middle of a shard leaves its temporary file for the next attempt.
    fixed_step = ("simulate.time_step=0.1", "simulate.spin_up_coarse=0.0", "ranks=1")
    finished = command("run", smoke.config, f"run_dir={run_dir}", *fixed_step)
    assert_one_line(finished, 4, "CFL number", "exceeds simulate.cfl = 0.5; set simulate.time_step to at most",
                    stage="simulate")  # fmt: skip
    assert_nothing_half_written(run_dir, "simulate", "raw/*.hdf5", "raw/catalogue.json")


def test_loss_that_is_not_finite(smoke, command, tmp_path):
    run_dir = smoke.copy(tmp_path / "run")
    before = (run_dir / "weights.safetensors").read_bytes()
    finished = command("train", smoke.config, f"run_dir={run_dir}", "train.apriori.learning_rate=1e30", ranks=2)
    assert_one_line(finished, 4, "phase apriori, step", "lower train.apriori.learning_rate")
    assert (run_dir / "weights.safetensors").read_bytes() == before
    finished = command("export", smoke.config, f"run_dir={run_dir}", "train.apriori.learning_rate=1e30")
    assert_one_line(finished, 3, "stage train is needed first (was interrupted)")
