"""The solver benchmark: the form without peers runs and writes its figures; a missing peer is one clear line."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "bench_solver.py"


def run_script(*arguments, grid=("--points", "64")):
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--threads", "1", *grid, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def bench_solver():
    spec = importlib.util.spec_from_file_location("bench_solver", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        spec.loader.exec_module(module)
    return module


def test_without_peers_it_times_our_solver_and_claims_nothing(tmp_path):
    result = run_script("--without-peers", "--json", tmp_path / "bench.json")
    assert result.returncode == 0, result.stderr
    assert "64^2 points" in result.stdout
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [(figure["name"], figure["unit"]) for figure in written["figures"]] == [
        ("64^2 time per point and stage, hpcsurrogate", "ns"),
        ("64^2 time to error 0.0001, hpcsurrogate", "s"),
    ]
    assert all(figure["value"] > 0 and "met" not in figure for figure in written["figures"])
    assert written["machine"]["threads"] == 1


def test_in_three_dimensions_our_solver_stands_beside_its_ffts(tmp_path):
    result = run_script("--without-peers", "--json", tmp_path / "bench.json", grid=("--boxes", "64"))
    assert result.returncode in (0, 1), result.stderr  # 1: an aim missed, as on a machine with other work
    ours, ffts, ratio = json.loads((tmp_path / "bench.json").read_text())["figures"]
    assert ratio["name"] == "64^3 time per point and stage, hpcsurrogate / 8 FFTs by torch"
    assert ratio["value"] == pytest.approx(ours["value"] / ffts["value"])
    assert result.returncode == (0 if ratio["met"] else 1)


def test_a_missing_peer_is_an_error_that_names_the_extra(tmp_path):
    python_without_peers = tmp_path / "python"
    python_without_peers.write_text("#!/bin/sh\nexit 1\n")
    python_without_peers.chmod(0o755)
    result = run_script("--peer-python", python_without_peers)
    assert result.returncode == 2
    assert "pip install -e .[bench]" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_interpreter_that_does_not_exist_is_named(tmp_path):
    result = run_script("--peer-python", tmp_path / "nothing")
    assert result.returncode == 2
    assert "--peer-python" in result.stderr and "No such file" in result.stderr


def test_more_threads_than_cores_are_refused():
    result = run_script("--without-peers", "--threads", "100000")
    assert result.returncode == 2
    assert "--threads 100000" in result.stderr


class PowerLaw:
    """A solver whose error is (needed / num_steps)^4 of the target and that blows up below half the steps needed."""

    name, stages = "power law", 4

    def __init__(self, needed, exact, target):
        self.needed, self.exact, self.target = needed, exact, target

    def prepare(self, time_step, vorticity):
        pass

    def run(self, num_steps):
        error = self.target * (self.needed / num_steps) ** 4
        self.result = self.exact * (math.nan if num_steps < self.needed / 2 else 1 + error)

    def vorticity(self):
        return self.result


def test_steps_to_error_finds_the_fewest_steps(bench_solver):
    exact = np.ones((64, 64))
    for needed in (5, 23, 40):
        solver = PowerLaw(needed, exact, bench_solver.TARGET_ERROR)
        found = bench_solver.steps_to_error(solver, 64, exact)
        # The search stops at 5 %, or at one step.
        assert needed <= found <= needed + max(1, needed // 20)


def test_a_ratio_above_the_aim_is_not_met(bench_solver):
    figures = bench_solver.compare("time", "s", {"hpcsurrogate": 0.5, "slow": 2.0, "fast": 1.0})
    assert figures[-1]["value"] == 0.5 and figures[-1]["at_most"] == 0.6 and figures[-1]["met"]
    figures = bench_solver.compare("time", "s", {"hpcsurrogate": 0.7, "slow": 2.0, "fast": 1.0})
    assert not figures[-1]["met"]
