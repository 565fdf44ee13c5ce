"""A job that queues itself again and again must get on: attempts.json in the run directory remembers how far it was."""

import os

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.paths import RunPaths

FILE_NAME = "attempts.json"


def record_attempt(paths: RunPaths, step: int, max_requeues: int) -> None:
    """Note that training starts from `step`; refuse a SLURM job that was queued again too often without progress.

    Outside SLURM nothing is written. A new submission, which has a new number, starts a new count; so does progress.

    Parameters
    ----------
    paths : RunPaths          writes attempts.json
    step : int [-]            the checkpoint that training goes on from, 0 for none
    max_requeues : int [-]    times in a row that the job may be queued again without a step of progress

    Raises
    ------
    ConfigError    if the job was queued again more often than that
    DataError      if attempts.json is damaged

    Notes
    -----
    tests/unit/train/test_attempts.py; with a real SLURM in tests/faults/test_scheduler_faults.py.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    file = paths.run_dir / FILE_NAME
    requeues = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    furthest, without_progress = step, 0
    previous = read_attempt(paths)
    if previous is not None and previous["job"] == job and step <= previous["furthest_step"]:
        furthest = previous["furthest_step"]
        without_progress = previous["without_progress"] + requeues - previous["requeues"]
    attempt = {"job": job, "requeues": requeues, "without_progress": without_progress, "furthest_step": furthest}
    write_json_atomic(file, attempt)
    if without_progress > max_requeues:
        raise ConfigError(
            f"{paths.run_dir}: job {job} was queued again {without_progress} times in a row without getting beyond step"
            f" {furthest} (slurm.max_requeues: {max_requeues}); find the reason in its output, then submit it anew"
        )


def read_attempt(paths: RunPaths) -> dict | None:
    """What attempts.json holds, None if no SLURM job has trained here.

    Returns
    -------
    dict    job, requeues (of that job so far), without_progress (how many of these, in a row), furthest_step

    Raises
    ------
    DataError    if the file is damaged
    """
    file = paths.run_dir / FILE_NAME
    if not file.exists():
        return None
    try:
        content = read_json(file)
        numbers = {name: int(content[name]) for name in ("requeues", "without_progress", "furthest_step")}
        return {"job": str(content["job"]), **numbers}
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: damaged ({error}); remove it, and the count of requeues starts anew") from None
