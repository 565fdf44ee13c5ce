"""A job that is queued again without getting on is refused; everything else starts a new count."""

import pytest

from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.train.attempts import read_attempt, record_attempt


@pytest.fixture
def paths(tmp_path):
    return RunPaths(tmp_path)


@pytest.fixture
def attempt(paths, monkeypatch):
    """`attempt(step, requeues, job="7")`: what a job that was queued again so often does when it starts, 2 allowed."""

    def start(step, requeues, job="7"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
        if requeues:  # SLURM sets it from the first time on
            monkeypatch.setenv("SLURM_RESTART_COUNT", str(requeues))
        record_attempt(paths, step, max_requeues=2)

    return start


def test_outside_slurm_nothing_is_counted(paths, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    for _ in range(5):
        record_attempt(paths, 0, max_requeues=2)
    assert read_attempt(paths) is None


@pytest.mark.parametrize("step", [0, 40])
def test_without_progress_the_job_is_refused_after_the_allowed_number(attempt, step):
    for requeues in range(3):
        attempt(step, requeues)
    with pytest.raises(ConfigError, match=f"job 7 was queued again 3 times in a row .* step {step} .*max_requeues: 2"):
        attempt(step, 3)


def test_it_stays_refused(attempt):
    attempt(0, 0)
    for requeues in (5, 6):
        with pytest.raises(ConfigError):
            attempt(0, requeues)


def test_progress_starts_a_new_count(attempt, paths):
    for requeues in range(30):
        attempt(10 * (requeues // 2), requeues)
    assert read_attempt(paths) == {"job": "7", "requeues": 29, "without_progress": 1, "furthest_step": 140}


def test_to_fall_back_is_no_progress(attempt):
    attempt(40, 0)
    attempt(20, 1)
    attempt(30, 2)
    with pytest.raises(ConfigError, match="beyond step 40"):
        attempt(20, 3)


def test_a_new_submission_starts_a_new_count(attempt):
    for job in ("7", "8", "9"):
        for requeues in range(3):
            attempt(0, requeues, job)


def test_two_trainings_of_one_start_count_once(attempt, paths):
    for _ in range(10):
        attempt(0, 1)
    assert read_attempt(paths)["without_progress"] == 0


def test_a_damaged_count_is_named(attempt, paths):
    attempt(0, 0)
    (paths.run_dir / "attempts.json").write_text('{"job": "7"}')
    with pytest.raises(DataError, match="attempts.json: damaged .* remove it"):
        attempt(0, 1)
