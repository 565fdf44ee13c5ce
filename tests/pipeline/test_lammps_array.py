"""An array of jobs of a real SLURM shares a sweep of real LAMMPS runs."""

import subprocess
from pathlib import Path

from tests.lammps_program import require_lammps
from tests.slurm_daemons import TIMEOUT

PROJECT = Path(__file__).resolve().parents[2]
SWEEP = """\
name: sweep
run_dir: {run_dir}
simulate:
  kind: lammps
  script: {script}
  grid: {{rate: [0.1, 0.5, 1.0], rho: [0.8442], T: [0.722]}}
  variables: {{steps: 100, melting: 100, start: 100}}
train: {{model: {{kind: viscous_law}}}}
"""


def test_an_array_of_jobs_shares_a_sweep_of_lammps_runs(slurm, tmp_path):
    require_lammps()
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP.format(run_dir=tmp_path / "run", script=PROJECT / "configs" / "lammps" / "shear.lmp"))
    options = ["--parsable", "--wait", "--array=1-2", f"--output={tmp_path}/%a.out"]
    done = subprocess.run(
        ["sbatch", *options, PROJECT / "slurm" / "sweep.sbatch", file], capture_output=True, text=True, timeout=TIMEOUT
    )
    outputs = [(tmp_path / f"{number}.out").read_text() for number in (1, 2)]
    assert done.returncode == 0, (done.stderr, outputs)
    assert [output.count(": done in ") for output in outputs] == [2, 1]
    assert len(list((tmp_path / "run" / "sweep").glob("*/run.json"))) == 3
