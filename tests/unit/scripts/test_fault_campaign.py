"""The campaign of kills: whatever it looks for is counted as a fault. Its short form runs in tests/faults."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

SCRIPTS = Path(__file__).parents[3] / "scripts"
WEIGHTS = {"layers.0.weight": np.arange(6, dtype=np.float32), "layers.0.bias": np.zeros(2, dtype=np.float32)}


@pytest.fixture(scope="module")
def campaign():
    sys.path.insert(0, str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("fault_campaign", SCRIPTS / "fault_campaign.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(SCRIPTS))
    return module


@pytest.fixture
def run_dir(tmp_path):
    """What a finished training leaves, in small."""
    (tmp_path / "run" / "checkpoints" / "step-00000002").mkdir(parents=True)
    save_file(WEIGHTS, tmp_path / "run" / "weights.safetensors")
    (tmp_path / "run" / "checkpoints" / "step-00000002" / "manifest.json").write_text("{}")
    return tmp_path / "run"


@pytest.fixture
def reference(campaign, run_dir):
    from_arrays = {name: array.tobytes() for name, array in WEIGHTS.items()}
    return campaign.Reference(from_arrays, campaign.relative_files(run_dir), 1.0)


def test_the_same_end_has_no_faults(campaign, run_dir, reference):
    assert campaign.faults_of_the_end(run_dir, reference) == []


def test_one_other_bit_is_a_fault(campaign, run_dir, reference):
    altered = {name: array.copy() for name, array in WEIGHTS.items()}
    altered["layers.0.bias"].view(np.int32)[1] ^= 1
    save_file(altered, run_dir / "weights.safetensors")
    assert campaign.faults_of_the_end(run_dir, reference) == ["weights differ in layers.0.bias"]


def test_what_is_left_behind_or_missing_is_a_fault(campaign, run_dir, reference):
    (run_dir / "checkpoints" / ".partial-step-00000004").mkdir()
    (run_dir / "checkpoints" / "step-00000002" / "manifest.json").unlink()
    found = campaign.faults_of_the_end(run_dir, reference)
    assert "checkpoints/.partial-step-00000004 was left behind" in found
    assert "checkpoints/step-00000002/manifest.json is missing" in found


def test_a_training_is_done_once_it_has_its_record(campaign, run_dir):
    assert not campaign.is_done(run_dir)
    (run_dir / "stages").mkdir()
    for finished in (False, True):
        (run_dir / "stages" / "train.json").write_text(json.dumps({"finished": finished}))
        assert campaign.is_done(run_dir) is finished


def kills_of(campaign, *seconds_and_faults):
    return [campaign.Kill("rank", "save", 2, 5, seconds, faults) for seconds, faults in seconds_and_faults]


def test_a_good_campaign_is_reported_with_its_figures(campaign, tmp_path, capsys):
    kills = kills_of(campaign, (0.5, ()), (2.5, ()))
    assert campaign.report(kills, [[], []], tmp_path / "figures.json") == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("rank")]
    assert row.split() == ["rank", "save", "2", "2", "2.5"]
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert [(figure["value"], figure["met"]) for figure in figures] == [(2, True), (2, True), (2.5, True)]


@pytest.mark.parametrize(
    ("seconds_and_faults", "ends"),
    [
        (((0.5, ()), (0.5, ("a traceback was printed",))), [[]]),
        (((0.5, ()),), [[], ["weights differ in layers.0.bias"]]),
        (((31.0, ()),), [[]]),
    ],
    ids=["kill", "end", "late"],
)
def test_every_fault_makes_the_campaign_fail(campaign, capsys, seconds_and_faults, ends):
    assert campaign.report(kills_of(campaign, *seconds_and_faults), ends, None) == 1
    said = capsys.readouterr().out
    assert all(fault in said for faults in [*ends, *(faults for _, faults in seconds_and_faults)] for fault in faults)
