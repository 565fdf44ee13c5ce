import pytest

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.pipeline.records import record_end, record_start, why_stale
from hpcsurrogate.study.runs import DATA_STAGES, changed_experiment, linked_run


@pytest.fixture
def main_run(tiny):
    """The experiment with raw/ and prepared/ of one file each, and true records of them."""
    paths = RunPaths(tiny.run_dir)
    for stage in DATA_STAGES:
        (folder,) = (getattr(paths, name) for name in stage.outputs)
        folder.mkdir(parents=True)
        (folder / "realisation-0000.hdf5").write_text(stage.name)
        record_start(stage, tiny, paths)
        record_end(stage, tiny, paths, 1.0, 1)
    return tiny


def fresh(experiment):
    """Which data stages are up to date in the experiment's run directory."""
    return [stage.name for stage in DATA_STAGES if why_stale(stage, experiment, RunPaths(experiment.run_dir)) is None]


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ("train.apriori.learning_rate=0.5", ["simulate", "prepare"]),
        ("ranks=2", ["simulate", "prepare"]),
        ("prepare.filter.kind=box", ["simulate"]),
        ("host.grid=[32, 32]", ["simulate"]),
        ("flow.viscosity=2e-3", []),
    ],
)
def test_what_a_change_leaves_alone_is_shared_and_nothing_else(main_run, tmp_path, change, shared):
    changed = linked_run(main_run, tmp_path / "trials" / "one", [change])
    own, main = RunPaths(changed.run_dir), RunPaths(main_run.run_dir)
    assert fresh(changed) == shared
    assert own.raw.is_symlink() == ("simulate" in shared)
    assert own.prepared.is_symlink() == ("prepare" in shared)
    if shared:
        assert own.raw.samefile(main.raw)
    assert load_experiment(own.config) == changed
    assert changed.tune is None


def test_links_follow_the_experiment_when_the_run_is_made_again(main_run, tmp_path):
    directory = tmp_path / "one"
    linked_run(main_run, directory)
    changed = linked_run(main_run, directory, ["prepare.filter.kind=box"])
    assert fresh(changed) == ["simulate"]
    assert not RunPaths(directory).prepared.exists()
    assert (RunPaths(main_run.run_dir).prepared / "realisation-0000.hdf5").exists()
    assert fresh(linked_run(main_run, directory)) == ["simulate", "prepare"]


def test_data_that_the_run_has_made_itself_stay(main_run, tmp_path):
    own = RunPaths(tmp_path / "one")
    own.prepared.mkdir(parents=True)
    (own.prepared / "mine").touch()
    changed = linked_run(main_run, own.run_dir)
    assert fresh(changed) == ["simulate"]
    assert (own.prepared / "mine").exists()


def test_a_main_run_without_data_shares_nothing(tiny, tmp_path):
    changed = linked_run(tiny, tmp_path / "one")
    assert fresh(changed) == []
    assert not RunPaths(changed.run_dir).raw.is_symlink()


def test_damaged_data_are_not_shared(main_run, tmp_path):
    (RunPaths(main_run.run_dir).raw / "realisation-0000.hdf5").write_text("other")
    assert fresh(linked_run(main_run, tmp_path / "one")) == []


def test_runs_can_be_moved_with_the_main_run(main_run, tmp_path):
    linked_run(main_run, RunPaths(main_run.run_dir).run_dir / "tune" / "trial-0000")
    moved = RunPaths(main_run.run_dir).run_dir.rename(tmp_path / "moved")
    assert (moved / "tune" / "trial-0000" / "prepared" / "realisation-0000.hdf5").read_text() == "prepare"


def test_changes_apply_to_defaults_that_the_file_does_not_write(tiny):
    assert changed_experiment(tiny, ["train.unrolled.snapshots.0=3"]).train.unrolled.snapshots == (3, 2, 4)
    with pytest.raises(ConfigError, match=r"override 'train\.acumulate=2': train\.acumulate: unknown key"):
        changed_experiment(tiny, ["train.acumulate=2"])
