import json

import pytest

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.study.runs import changed_experiment
from hpcsurrogate.study.tune_keys import check_parameters, flatten, last_phase, overrides


def searching(tiny, *changes, **parameters):
    """The experiment with other parameters, whose keys are written with two underscores for a dot."""
    named = {key.replace("__", "."): space for key, space in parameters.items()}
    tune = tiny.tune.model_dump(mode="json") | {"parameters": named}
    content = tiny.model_dump(mode="json") | {"tune": tune}
    return changed_experiment(Experiment.model_validate_json(json.dumps(content)), changes)


def refused(experiment, match):
    with pytest.raises(ConfigError, match=match) as caught:
        check_parameters(experiment, experiment.tune)
    assert "\n" not in str(caught.value)


def test_good_keys_pass(tiny):
    check_parameters(tiny, tiny.tune)
    unset = searching(tiny, train__weight_average={"low": 0.9, "high": 0.999})
    check_parameters(unset, unset.tune)


def test_a_key_that_does_not_exist_is_named_with_the_nearest(tiny):
    space = {"low": 1, "high": 2}
    refused(searching(tiny, train__apriori__learning_rat=space), "did you mean 'train.apriori.learning_rate'")
    refused(searching(tiny, train__apriori=space), "is no single value")


@pytest.mark.parametrize(
    "key", ["run_dir", "name", "seed", "ranks", "threads_per_rank", "tune__trials", "slurm__nodes", "train__engine"]
)
def test_keys_that_only_say_how_a_run_is_done_are_refused(tiny, key):
    refused(searching(tiny, **{key: {"choices": ["a", "b"]}}), "says how a run is done")


def test_an_end_that_the_experiment_may_not_have_is_refused(tiny):
    refused(searching(tiny, train__apriori__learning_rate={"low": -1.0, "high": 1.0}), r"learning_rate=-1\.0")
    refused(searching(tiny, train__apriori__batch_size={"low": 4, "high": 8.5}), r"batch_size=8\.5.*whole number")
    other_kind = searching(tiny, train__model__kind={"choices": ["quadratic_stencil", "cnn"]})
    refused(other_kind, r'model\.kind: "cnn" cannot be: train\.model\.output_channels: unknown key')


@pytest.mark.parametrize(
    ("key", "space", "what"),
    [
        ("flow__viscosity", {"low": 1e-4, "high": 1e-3}, "the flow"),
        ("simulate__duration", {"low": 2.0, "high": 4.0}, "the fine data"),
        ("couple__duration", {"low": 0.5, "high": 1.0}, "the comparison"),
        ("prepare__split__test__0", {"choices": [2, 7]}, r"prepare\.split"),
    ],
)
def test_keys_that_change_the_yardstick_are_refused_for_every_objective(tiny, key, space, what):
    for objective in ("apriori", "aposteriori"):
        refused(searching(tiny, f"tune.objective={objective}", **{key: space}), f"changes {what}")


@pytest.mark.parametrize(
    ("key", "space", "what"),
    [
        ("host__grid__0", {"choices": [16, 32]}, "the host"),
        ("prepare__filter__kind", {"choices": ["box", "gaussian"]}, "the pairs"),
        ("train__unrolled__iterations", {"low": 0, "high": 100}, "the last phase"),
        ("train__unrolled__snapshots__2", {"low": 2, "high": 8}, "the validated length"),
    ],
)
def test_what_a_validation_loss_is_relative_to_can_be_searched_a_posteriori_alone(tiny, key, space, what):
    refused(searching(tiny, **{key: space}), f"changes {what}.*set tune.objective: aposteriori")
    a_posteriori = searching(tiny, "tune.objective=aposteriori", **{key: space})
    check_parameters(a_posteriori, a_posteriori.tune)


def test_the_target_matters_where_the_first_phase_is_the_last(tiny):
    space = {"choices": ["commutator", "sgs_force"]}
    both = searching(tiny, train__apriori__target=space)
    check_parameters(both, both.tune)
    refused(searching(tiny, "train.unrolled.iterations=0", train__apriori__target=space), "the validated target")


def test_values_come_back_unchanged_through_the_command_line(tiny):
    values = {"train.apriori.learning_rate": 1e-5, "train.accumulate": 2, "train.exact": True, "name": "true"}
    changed = flatten(changed_experiment(tiny, overrides(values)))
    assert {key: changed[key] for key in values} == values


def test_single_values_by_their_keys(tiny):
    known = flatten(tiny)
    assert known["couple.contenders.0.closure.kind"] == "none"
    assert known["train.weight_average"] is None
    assert known["host.grid.1"] == 16
    assert "train" not in known and "host.grid" not in known


def test_the_phase_that_ends_a_training(tiny):
    assert last_phase(tiny) == "unrolled"
    assert last_phase(changed_experiment(tiny, ["train.unrolled.iterations=0"])) == "apriori"
