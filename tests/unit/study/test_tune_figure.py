import numpy as np
import pytest

from hpcsurrogate.report.style import figure_style
from hpcsurrogate.study.tune_figure import tune_figure

ERROR = {"name": "validation loss", "unit": "", "direction": "minimize"}
KEYS = ["train.apriori.learning_rate", "train.apriori.target"]
COST = {"name": "closure call", "unit": "ms", "direction": "minimize"}


def summary(num_complete=5, cost=True):
    trials = [
        {
            "number": number,
            "state": "complete",
            "values": {"train.apriori.learning_rate": 10.0 ** (-4 + number / 2), "train.apriori.target": "sgs_force"},
            "objectives": [0.5 - 0.1 * number, 1.0 + number][: 1 + cost],
        }
        for number in range(num_complete)
    ]
    for number, state in ((num_complete, "failed"), (num_complete + 1, "pruned"), (num_complete + 2, "running")):
        values = {"train.apriori.learning_rate": 0.1, "train.apriori.target": "commutator"}
        trials.append({"number": number, "state": state, "values": values, "objectives": []})
    front = [trial["number"] for trial in trials if trial["state"] == "complete"]
    front = front if cost else front[-1:]
    return {"objectives": [ERROR, COST][: 1 + cost], "keys": KEYS, "trials": trials, "front": front}


def drawn(content):
    with figure_style():
        figure = tune_figure(content)
        figure.canvas.draw()
    return figure


def line(axes, label):
    (found,) = [line for line in axes.get_lines() if line.get_label() == label]
    return found


def test_with_a_cost_the_front_is_a_staircase_through_its_trials():
    front, progress, rate, target = drawn(summary()).axes
    staircase = line(front, "Pareto front")
    assert staircase.get_drawstyle() == "steps-post"
    np.testing.assert_allclose(staircase.get_xdata(), [1, 2, 3, 4, 5])
    np.testing.assert_allclose(staircase.get_ydata(), [0.5, 0.4, 0.3, 0.2, 0.1])
    assert (front.get_xlabel(), front.get_ylabel()) == ("closure call [ms]", "validation loss")
    assert rate.get_xlabel().replace("\n", "") == "train.apriori.learning_rate"
    assert rate.get_xscale() == "log" and target.get_xscale() == "linear"
    assert [text.get_text() for text in target.get_xticklabels()] == ["sgs_force"]


def test_progress_shows_the_best_so_far_and_what_was_lost():
    content = summary()
    content["trials"][3]["objectives"] = [0.9, 4.0]
    progress = drawn(content).axes[1]
    np.testing.assert_allclose(line(progress, "best so far").get_ydata(), [0.5, 0.4, 0.3, 0.3, 0.1])
    np.testing.assert_allclose(line(progress, "failed").get_xdata(), [5])
    np.testing.assert_allclose(line(progress, "pruned").get_xdata(), [6])


def test_without_a_cost_there_is_no_front():
    assert len(drawn(summary(cost=False)).axes) == 3


@pytest.mark.parametrize("cost", [True, False])
@pytest.mark.filterwarnings("error")
def test_a_search_without_a_complete_trial_can_be_drawn(cost):
    drawn(summary(num_complete=0, cost=cost))


@pytest.mark.filterwarnings("error")
def test_many_keys_have_a_panel_each():
    content = summary() | {"keys": [f"train.key_{index}" for index in range(7)]}
    for trial in content["trials"]:
        trial["values"] = dict.fromkeys(content["keys"], 1.5)
    assert len(drawn(content).axes) == 2 + 7
