"""Every cause to stop, and that the end of a job is known early enough."""

import os
import signal
import time

import pytest

from hpcsurrogate.train import stop
from hpcsurrogate.train.stop import LEAVING, StopRequest, job_end_time


@pytest.mark.parametrize("number", StopRequest.SIGNALS)
def test_a_signal_is_noted_and_the_handler_given_back(number):
    before = signal.getsignal(number)
    with StopRequest() as request:
        assert not request.received
        os.kill(os.getpid(), number)
        assert request.received
        assert request.reason == f"{number.name} came"
    assert signal.getsignal(number) is before


def test_the_time_limit_counts_from_the_beginning(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    request = StopRequest(time_limit=5.0)
    now = 104.9
    assert request.reason is None
    now = 105.0
    assert request.reason == "train.time_limit is over"


def test_the_job_s_end_leaves_time_for_two_steps_and_two_checkpoints(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_END_TIME", "5000")
    now = 0.0
    monkeypatch.setattr(time, "time", lambda: now)
    request = StopRequest(watch_job=True)
    for seconds in (3.0, 1.0):
        request.step_took(seconds)
    for seconds in (2.0, 7.0):
        request.save_took(seconds)
    now = 5000 - LEAVING - 2 * (3.0 + 7.0) - 0.1
    assert not request.received
    now += 0.2
    assert request.reason == "the job's wall time ends"


def test_only_a_rank_that_watches_the_job_asks_for_its_end(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1")
    assert not StopRequest().received
    assert StopRequest(watch_job=True).received


class Squeue:
    """A squeue that answers with a line, first on PATH."""

    def __init__(self, folder):
        self.environment = {"SLURM_JOB_ID": "7", "PATH": f"{folder}:/usr/bin:/bin"}
        self._file = folder / "squeue"

    def answers(self, text, exit_code=0):
        # It prints the time format that it was asked for as well, so that a test sees it.
        self._file.write_text(f'#!/bin/sh\n[ "$SLURM_TIME_FORMAT" = %s ] && {text}\nexit {exit_code}\n')
        self._file.chmod(0o755)


@pytest.fixture
def squeue(tmp_path):
    return Squeue(tmp_path)


def test_outside_a_job_there_is_no_end():
    assert job_end_time({"PATH": "/usr/bin"}) is None


def test_an_older_slurm_is_asked(squeue):
    squeue.answers("echo 1795373285")
    assert job_end_time(squeue.environment) == 1795373285.0


def test_a_job_without_limit_has_no_end_and_no_warning(squeue, caplog):
    squeue.answers("echo NONE")
    assert job_end_time(squeue.environment) is None
    assert not caplog.records


def test_a_slurm_that_refuses_is_named_in_a_warning(squeue, caplog):
    squeue.answers("echo 'Unable to contact slurm controller' >&2", exit_code=1)
    assert job_end_time(squeue.environment) is None
    assert "Unable to contact slurm controller" in caplog.text
    assert "train.time_limit" in caplog.text


def test_a_slurm_that_does_not_answer_is_named_in_a_warning(squeue, caplog, monkeypatch):
    monkeypatch.setattr(stop, "SQUEUE_SECONDS", 0.1)
    squeue.answers("exec sleep 60")
    assert job_end_time(squeue.environment) is None
    assert "did not answer" in caplog.text


def test_a_job_without_squeue_is_named_in_a_warning(caplog, tmp_path):
    assert job_end_time({"SLURM_JOB_ID": "7", "PATH": str(tmp_path)}) is None
    assert "squeue is not on PATH" in caplog.text
