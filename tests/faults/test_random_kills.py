"""The short form of `make faults`: a training killed at random moments ends with the bits of one that was not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fault_campaign.py"
KILLS = 4
LIMIT = 400  # seconds for what takes about 40 on two idle cores


@pytest.mark.fault(3, "killed at random moments")
def test_a_training_killed_at_random_moments_ends_with_the_same_bits(tmp_path, fault):
    figures_file = tmp_path / "figures.json"
    command = [sys.executable, SCRIPT, "--kills", str(KILLS), "--json", figures_file, "--directory", tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    survived, equal, longest = json.loads(figures_file.read_text())["figures"]
    assert survived["value"] == KILLS and equal["value"] >= 1
    fault.withstood(KILLS - 1)
    fault.exited(longest["value"])
