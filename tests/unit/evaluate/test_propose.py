"""The next runs are where the members of an ensemble differ, and one is enough for what one teaches."""

import pytest
import torch

from hpcsurrogate.evaluate.propose import after_run, choose_runs, covariance_of, error_after

N = 41
POSITIONS = torch.linspace(0, 1, N, dtype=torch.float64)


def members_of(covariance, count=4000, seed=0):
    """Draws whose covariance is this one, up to what 4000 of them say."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(count, len(covariance), dtype=torch.float64, generator=generator)
    return normal @ torch.linalg.cholesky(covariance + 1e-12 * torch.eye(len(covariance), dtype=torch.float64)).T


def bumps(length):
    return torch.exp(-(((POSITIONS[:, None] - POSITIONS) / length) ** 2) / 2)


def noise(value):
    return torch.full((N,), value, dtype=torch.float64)


def test_the_ensemble_is_asked_where_it_is_wide():
    amplitude = torch.where(POSITIONS > 0.7, 0.3, 0.01)
    chosen, errors = choose_runs(members_of(amplitude[:, None] * bumps(0.05) * amplitude), 1.0, noise(0.01), 3)
    assert all(POSITIONS[index] > 0.7 for index in chosen)
    assert errors == sorted(errors, reverse=True) and len(errors) == 4


def test_the_second_run_is_not_beside_the_first():
    chosen, _ = choose_runs(members_of(bumps(0.15)), 1.0, noise(0.1), 3)
    first, second, third = POSITIONS[chosen]
    assert abs(first - second) > 0.2 and abs(first - third) > 0.2 and abs(second - third) > 0.2


def test_a_run_without_noise_leaves_nothing_where_it_is_and_raises_nothing():
    before = covariance_of(members_of(bumps(0.2)), 1.0)
    after = after_run(before, noise(0.0), 17)
    assert after[17].abs().max() < 1e-11
    assert (after.diagonal() <= before.diagonal() + 1e-12).all() and after.diagonal().min() > -1e-9


def test_a_noisy_run_halves_the_variance_that_equals_its_own():
    covariance = covariance_of(members_of(bumps(0.2)), 2.0)
    own = covariance.diagonal().sqrt()
    assert float(own.mean()) == pytest.approx(2, rel=0.05)  # the factor is on the spread
    assert float(after_run(covariance, own, 5)[5, 5]) == pytest.approx(float(covariance[5, 5]) / 2)


def test_noise_sends_the_run_elsewhere():
    members, loud = members_of(bumps(0.2)), noise(0.05)
    quiet = choose_runs(members, 1.0, loud, 1)[0][0]
    loud[max(quiet - 8, 0) : quiet + 9] = 10.0
    assert abs(choose_runs(members, 1.0, loud, 1)[0][0] - quiet) > 8


def test_members_know_one_direction_less_than_they_are():
    members = members_of(bumps(0.1), count=5)
    errors = choose_runs(members, 1.0, noise(0.0), 4)[1]
    assert errors[-1] < 1e-5 < 0.1 < errors[0] and errors[3] > 1e-3


def test_chosen_runs_are_worth_more_than_others_and_the_error_is_one_function():
    members, loud = members_of(bumps(0.1)), noise(0.1)
    chosen, errors = choose_runs(members, 1.0, loud, 4)
    assert error_after(members, 1.0, loud, chosen) == pytest.approx(errors[-1])
    assert errors[-1] < 0.9 * error_after(members, 1.0, loud, [0, 1, 2, 3])


def test_members_that_agree_have_nothing_to_gain():
    chosen, errors = choose_runs(torch.ones(3, N, dtype=torch.float64), 1.0, noise(0.0), 2)
    assert errors == [0, 0, 0] and len(chosen) == 2
