"""Samples and law of a fluid are the same bits for any number of ranks; on files as LAMMPS writes them."""

import numpy as np

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import load_fluid_experiment
from hpcsurrogate.data.material import read_material
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.parallel.launch import run_alone, run_ranks
from hpcsurrogate.sources.lammps_runs import planned_runs, script_digest

FILE = """\
name: made
run_dir: {run_dir}
simulate: {{kind: lammps, script: none.lmp, grid: {{rate: [0.1, 0.5, 1.0], rho: [0.8], T: [0.7, 1.0]}}}}
ingest: {{blocks: 4}}
train: {{model: {{kind: viscous_law, channels: 4}}, members: 3, epochs: 20}}
"""


def leave_runs(file):
    """Write what LAMMPS would have left: rows of averages with noise."""
    experiment, random = load_fluid_experiment(file), np.random.default_rng(0)
    for run in planned_runs(experiment):
        folder = RunPaths(experiment.run_dir).sweep / run.name
        folder.mkdir(parents=True)
        rows = 0.01 * random.standard_normal((50, 9))
        rows[:, 0] = 100 * np.arange(1, 51)
        rows[:, 1:3] = run.variables["rho"], run.variables["T"]
        rows[:, 4] -= 2 * run.variables["rate"]
        head = "# Time-averaged data for fix averages\n# TimeStep density temperature pxx pxy pxz pyy pyz pzz"
        np.savetxt(folder / "averages.txt", rows, fmt=["%d"] + 8 * ["%.8g"], header=head, comments="")
        record = {"variables": run.variables, "script": script_digest(experiment.simulate.script)}
        write_json_atomic(folder / "run.json", record)
    write_json_atomic(RunPaths(experiment.run_dir).sweep_record, {"runs": {}, "failed": []})


def test_samples_and_law_are_those_of_one_rank(tmp_path):
    (tmp_path / "none.lmp").write_text("units lj\n")
    found = []
    for ranks in (1, 2):
        file = tmp_path / f"{ranks}.yaml"
        file.write_text(FILE.format(run_dir=tmp_path / f"run-{ranks}"))
        leave_runs(file)
        paths = RunPaths(tmp_path / f"run-{ranks}")
        start = run_alone if ranks == 1 else lambda words: run_ranks(words, ranks=2)
        # All runs are there, so this starts no LAMMPS; `true` stands for it.
        for stage in (["simulate"], ["ingest", "lammps"], ["fit"]):
            assert start([*stage, str(file), "simulate.command='true'"]) == 0
        found.append((read_material(paths.material), load_artifact(paths.law).weights))
    (samples, law), (shared_samples, shared_law) = found
    for name in samples.__annotations__:
        assert np.array_equal(getattr(samples, name), getattr(shared_samples, name))
    assert all(np.array_equal(law[name], shared_law[name]) for name in law)
    assert (samples.stress[:, 1] > 0.1).all()
