"""The verdict names the closest, says a loss and a draw, and what failed."""

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.couple.cell_profiles import Moments, Places
from hpcsurrogate.couple.cell_verdict import CoarseRun, judge

PLACES = Places(np.arange(4), np.ones(4), np.arange(4.0)[:, None])
TIMES = 400


def moments(speed, seed):
    random = np.random.default_rng(seed)
    velocity = speed + random.normal(0, 0.1, (TIMES, 4, 3))
    return Moments.joined([Moments.of(PLACES, field, field[0]) for field in velocity])


def run(speed, seed, seconds=1.0):
    return CoarseRun(moments(speed, seed), seconds, None, None)


FAILED = CoarseRun(None, None, None, "log.1: it diverged")


@pytest.mark.parametrize(
    ("learned", "helped", "words"),
    [
        (1.01, True, "closer than the best of the others, WALE"),
        (1.3, False, "lost: WALE is closer"),
        (1.1, False, "WALE cannot be told apart"),
    ],
)
def test_verdict_follows_the_mean_velocity(learned, helped, words):
    runs = {"none": run(1.2, 1), "WALE": run(1.1, 2, 2.0), "learned": run(learned, 3, 2.2)}
    outcome = judge(runs, moments(1.0, 0), PLACES)
    assert outcome["best_classical"] == "WALE" and outcome["helped"] is helped
    assert words in outcome["verdict"] and "1.10 times that with WALE" in outcome["verdict"]
    assert outcome["cost_ratio"] == pytest.approx(1.1)


def test_what_failed_is_said():
    outcome = judge({"none": FAILED, "WALE": run(1.1, 2), "learned": run(1.0, 3)}, moments(1.0, 0), PLACES)
    assert outcome["best_classical"] == "WALE" and outcome["models"]["none"] == {"failed": FAILED.failed}
    outcome = judge({"WALE": run(1.1, 2), "learned": FAILED}, moments(1.0, 0), PLACES)
    assert not outcome["helped"] and "it diverged" in outcome["verdict"]
    with pytest.raises(DataError, match="no model but the learned one.*it diverged"):
        judge({"WALE": FAILED, "learned": run(1.0, 3)}, moments(1.0, 0), PLACES)
