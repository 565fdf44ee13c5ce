"""Every outcome of the comparison, in words."""

import pytest

from hpcsurrogate.couple.verdict import Circumstances, find_best_classical, judge

FOUR_STARTS = Circumstances(threshold=0.95, realisations=(2, 2, 3, 3))


def line(name, role, time, ratio=1.0, **changes):
    """One contender; by default stable, on the experiment's grid, its starts and its interval 0.1 s to either side."""
    return {
        "name": name,
        "role": role,
        "ladder_of": None,
        "own_artifact": role == "learned",
        "grid": [64, 64],
        "host": {"kind": "finite_volume"},
        "constant": None,
        "decorrelation_time": time,
        "decorrelation_times": [time - 0.1, time, time, time + 0.1],
        "decorrelation_interval": [time - 0.1, time + 0.1],
        "reached_end": False,
        "stable": True,
        "endurance": None,
        "blow_up_time": None,
        "fallback_fraction": 0.0 if role == "learned" else None,
        "cost_ms_per_time_unit": 0.5 * ratio,
        "cost_ratio_time": ratio,
        "effective_grid": 64.0 * time,
        "effective_grid_bound": None,
        "speed_up": time**3 / ratio,
    } | changes


BARE = line("no closure", "bare", 1.0)


def test_helped():
    classical = line("Leith", "classical", 1.2, 2.0, constant=0.2)
    judgement = judge([BARE, classical, line("learned", "learned", 3.0, 9.0)], FOUR_STARTS)
    assert judgement.helped and judgement.best_classical is classical
    assert judgement.sentence == (
        "The learned closure helped: on 64 x 64 it keeps the vorticity correlation above 0.95 for 3 s (95 % interval "
        "2.9 to 3.1, 4 starts in 2 realisations), longer than 'Leith' by 1.8 s, 1.8 to 1.8, from the same starts. "
        "Without a closure the same host reaches 1 s, with the best classical contender, 'Leith' (constant 0.2), 1.2 s "
        "at 2 times the bare host's cost. It costs 9 times the bare host's time (4.5 ms a simulated second against "
        "0.5 ms); to be as accurate the bare host needs about 192 points along x, where it costs 3 times as much. From "
        "no more than 2 realisations the intervals look surer than they are."
    )


@pytest.mark.parametrize(
    ("learned", "words"),
    [
        (line("learned", "learned", 1.1), "'Leith' in the same kind of host does as well or better (1.2 s)"),
        (
            line("learned", "learned", 1.25, decorrelation_times=[1.0, 1.1, 1.4, 1.5]),
            "that is not clearly longer than 'Leith' (1.2 s): by 0.05 s, -0.1 to 0.2, from the same starts",
        ),
        (line("learned", "learned", 3.0, stable=False, blow_up_time=3.5), "a run with it blew up at 3.5 s"),
        (
            line("learned", "learned", 3.0, endurance={"duration": 30.0, "blow_up_time": 27.0}),
            "carried on, a run with it blew up at 27 s",
        ),
    ],
)
def test_did_not_help(learned, words):
    judgement = judge([BARE, line("Leith", "classical", 1.2), learned], FOUR_STARTS)
    assert not judgement.helped
    assert judgement.sentence.startswith("The learned closure did not help: ") and words in judgement.sentence


def test_starts_that_are_hard_for_all_do_not_hide_a_difference():
    """Longer by 0.1 s from every start, though starts differ by 2 s and the two intervals all but coincide."""
    times = [1.0, 1.5, 2.5, 3.0]
    rival = line("Leith", "classical", 2.0, decorrelation_times=times, decorrelation_interval=[1.0, 3.0])
    better = [time + 0.1 for time in times]
    learned = line("learned", "learned", 2.1, decorrelation_times=better, decorrelation_interval=[1.1, 3.1])
    judgement = judge([BARE, rival, learned], FOUR_STARTS)
    assert judgement.helped and judgement.margin.rival == "Leith"
    assert (judgement.margin.time, *judgement.margin.interval) == pytest.approx((0.1,) * 3)


def test_a_rival_whose_mean_is_uncertain_is_not_beaten_by_a_certain_one():
    """The learned closure's own interval lies above the rival's mean, yet from half of the starts it is worse."""
    rival = line("Leith", "classical", 2.0, decorrelation_times=[1.0, 1.0, 3.0, 3.0])
    learned = line("learned", "learned", 2.2, decorrelation_times=[2.2] * 4, decorrelation_interval=[2.2, 2.2])
    judgement = judge([BARE, rival, learned], FOUR_STARTS)
    # Either of two realisations is drawn twice in a quarter of the draws.
    assert not judgement.helped and judgement.margin.interval == pytest.approx((-0.8, 1.2))


def test_a_higher_order_host_of_the_same_kind_is_a_rival():
    sixth = line("sixth order", "classical", 2.4, 1.5)
    judgement = judge([BARE, sixth, line("learned", "learned", 2.0, 9.0)], FOUR_STARTS)
    assert not judgement.helped and judgement.best_classical is sixth
    longest = "1 of 2 other contenders stayed with the flow longer, longest 'sixth order' (2.4 s, at 1.5 times"
    assert longest in judgement.sentence
    # 2.4^3 / 1.5 = 9.2 against 2^3 / 9 = 0.89.
    bargain = "The best bargain is 'sixth order': 2.4 s, 9.22 times cheaper than the bare host on the 154 points"
    assert bargain in judgement.sentence
    assert "it costs only 0.889 times as much, so that the learned closure does not pay" in judgement.sentence


def test_another_kind_of_host_is_named_but_does_not_decide():
    spectral = line("spectral", "classical", 4.0, 0.5, host={"kind": "spectral"})
    judgement = judge([BARE, spectral, line("learned", "learned", 3.0, 9.0)], FOUR_STARTS)
    assert judgement.helped and judgement.best_classical is None
    assert "no classical closure was run in it" in judgement.sentence
    assert "longest 'spectral' (4 s, at 0.5 times the bare host's cost)." in judgement.sentence


def test_a_classical_closure_that_blew_up_is_not_the_best():
    stable, wild = line("stable", "classical", 1.1), line("wild", "classical", 1.5, stable=False, blow_up_time=1.6)
    finer = line("finer", "classical", 5.0, grid=[128, 128])
    assert find_best_classical([BARE, wild, stable, finer], BARE) is stable
    assert find_best_classical([BARE, wild], BARE) is wild


def test_no_learned_contender():
    judgement = judge([BARE, line("Leith", "classical", 1.2)], FOUR_STARTS)
    assert not judgement.helped and judgement.learned is None
    assert judgement.sentence.startswith("No learned closure was among the contenders. The best classical")


def test_outside_the_ladder_the_bound_is_named():
    outside = {"effective_grid": None, "effective_grid_bound": "> 256", "speed_up": None}
    judgement = judge([BARE, line("learned", "learned", 9.0, **outside)], FOUR_STARTS)
    assert "to be as accurate the bare host would need more than 256 points along x." in judgement.sentence


def test_beyond_the_ladder_its_last_rung_gives_the_least_price():
    outside = {"effective_grid": None, "effective_grid_bound": "> 256", "speed_up": None}
    rung = line("no closure, 256 x 256", "ladder", 8.0, 40.0, grid=[256, 256])
    judgement = judge([BARE, line("learned", "learned", 9.0, 8.0, **outside), rung], FOUR_STARTS)
    assert "more than 256 points along x, and on 256 it costs 5 times as much." in judgement.sentence


@pytest.mark.parametrize(
    ("circumstances", "changes", "words"),
    [
        (FOUR_STARTS, {}, "From no more than 2 realisations the intervals look surer than they are."),
        (FOUR_STARTS, {"reached_end": True}, "a longer one would tell more"),
        (FOUR_STARTS, {"fallback_fraction": 0.123}, "12 % of the cells in its runs were beyond what it was trained on"),
    ],
)
def test_what_weakens_the_answer_is_said(circumstances, changes, words):
    assert words in judge([BARE, line("learned", "learned", 3.0, **changes)], circumstances).sentence


def test_one_start_says_nothing_about_the_spread_and_eight_realisations_say_enough():
    times = {"bare": 1.0, "learned": 3.0}
    alone = [line(role, role, time, decorrelation_times=[time]) for role, time in times.items()]
    judgement = judge(alone, Circumstances(0.95, (2,)))
    assert judgement.helped and judgement.sentence.endswith("One start says nothing about the spread.")
    many = [entry | {"decorrelation_times": 8 * entry["decorrelation_times"]} for entry in alone]
    assert "say" not in judge(many, Circumstances(0.95, tuple(range(8)))).sentence
