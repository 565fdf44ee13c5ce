"""What the command refuses before anything runs, and what makes one search another."""

import pytest

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.parallel.world import World
from hpcsurrogate.study import tune as tune_module
from hpcsurrogate.study.tune import tune_experiment


@pytest.fixture
def file(tiny, tmp_path):
    return tmp_path / "tiny.yaml"


@pytest.mark.parametrize(
    ("changes", "trials", "match"),
    [
        (["tune=null"], None, "no section `tune`; docs/tuning.md"),
        ([], 0, "--trials 0: give at least 1"),
        (["tune.objective=aposteriori"], None, "needs one contender of kind learned"),
        (["tune.parameters={train.learning_rate: {low: 1, high: 2}}"], None, "did you mean"),
        (["train.apriori.batch_size=3", "ranks=2", "train.engine=horovod"], None, "no multiple of ranks"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_is_written(file, tmp_path, changes, trials, match):
    with pytest.raises(ConfigError, match=match):
        tune_experiment(file, changes, trials)
    assert not (tmp_path / "run").exists()


def test_ranks_of_a_launcher_are_refused(file, monkeypatch):
    monkeypatch.setattr(tune_module, "get_world", lambda: World(rank=0, size=2))
    with pytest.raises(ConfigError, match="starts ranks of its own"):
        tune_experiment(file)


def test_data_under_a_search_that_has_begun_are_not_made_again(file, tmp_path):
    journal = tmp_path / "run" / "tune" / "journal.log"
    journal.parent.mkdir(parents=True)
    journal.touch()
    with pytest.raises(ConfigError, match=r"its data are not what .* \(simulate: not done yet\)"):
        tune_experiment(file)
    assert not (tmp_path / "run" / "raw").exists()


def identity(file, *changes):
    experiment = load_experiment(file, changes)
    return tune_module.search_identity(experiment, experiment.tune)


@pytest.mark.parametrize(
    "change",
    ["ranks=2", "name=other", "tune.trials=99", "tune.prune=false", "train.store=stream", "slurm.nodes=2"],
)
def test_a_search_goes_on_where_only_its_conduct_changes(file, change):
    assert identity(file, change) == identity(file)


@pytest.mark.parametrize(
    "change",
    ["seed=1", "train.gradient_clip=0.5", "couple.duration=0.5", "tune.cost=false", "tune.objective=aposteriori"],
)
def test_what_makes_trials_incomparable_makes_another_search(file, change):
    assert identity(file, change) != identity(file)
