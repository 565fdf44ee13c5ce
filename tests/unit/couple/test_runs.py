"""Running and timing a solver, with hosts whose state is the velocity itself."""

import time
from types import SimpleNamespace

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow
from hpcsurrogate.couple import runs
from hpcsurrogate.couple.cost import TimedRun, measure_costs
from hpcsurrogate.couple.observation import Observer
from hpcsurrogate.couple.runs import run_batch, run_starts
from hpcsurrogate.physics.hosts import make_host


@pytest.fixture
def observer():
    config = FiniteVolumeHost(kind="finite_volume", grid=(8, 8), time_step=0.02)
    return Observer(make_host(config, Flow(viscosity=0.01)), (8, 8))


@pytest.fixture
def velocity(observer):
    noise = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    return observer.host.project(noise)


def test_parts_of_a_batch_run_as_the_whole(observer, velocity, monkeypatch):
    """Float32 results may differ in the last bits with the batch size, and 10 steps amplify that little."""
    ((_, whole),) = run_starts(observer, None, velocity, 5, 2)
    monkeypatch.setattr(runs, "MAX_BATCH_POINTS", 128)  # two starts of 8 x 8
    parts = list(run_starts(observer, None, velocity, 5, 2))
    assert whole.energy.shape == (6, 3) and len(parts) == 2
    for starts, part in parts:
        torch.testing.assert_close(part.vorticity, whole.vorticity[:, starts], rtol=1e-4, atol=1e-4)


def test_one_start_that_blows_up_leaves_the_others_alone(observer, velocity):
    def closure(state):
        """Drive the second start only, beyond what float32 holds."""
        drive = torch.tensor([0.0, 1e4, 0.0])[:, None, None, None]
        return drive * state

    alone = run_batch(observer, None, velocity, 4, 2)
    run = run_batch(observer, closure, velocity, 4, 2)
    assert not torch.isfinite(run.energy[-1, 1])
    torch.testing.assert_close(run.energy[:, [0, 2]], alone.energy[:, [0, 2]], rtol=1e-5, atol=0)


def test_stop_ends_the_run_and_the_rest_is_not_a_number(observer, velocity):
    run = run_batch(observer, None, velocity, 5, 1, stop=lambda index, observation: index == 2)
    assert torch.isfinite(run.energy[:3]).all()
    assert run.energy.shape == (6, 3) and torch.isnan(run.energy[3:]).all() and torch.isnan(run.vorticity[3:]).all()


def test_every_velocity_that_is_observed_is_shown(observer, velocity, monkeypatch):
    monkeypatch.setattr(runs, "MAX_BATCH_POINTS", 128)  # two starts of 8 x 8
    shown = []
    parts = [part for _, part in run_starts(observer, None, velocity, 2, 2, shown.append)]
    assert [len(part) for part in shown] == [2, 2, 2, 1, 1, 1]
    energy = torch.cat([torch.stack(shown[:3]), torch.stack(shown[3:])], 1).square().sum(2).mean((-2, -1)) / 2
    torch.testing.assert_close(torch.cat([part.energy for part in parts], 1), energy)


def test_cost_of_a_step_is_what_the_step_takes():
    """Steps that sleep: the clock may only add. The thread count is as before."""
    threads = torch.get_num_threads()

    def sleeper(seconds):
        def step(state, closure):
            assert torch.get_num_threads() == 1
            time.sleep(seconds)
            return state

        return TimedRun(SimpleNamespace(encode=lambda velocity: velocity, step=step), None, torch.zeros(1, 2, 4, 4))

    fast, slow = measure_costs([sleeper(0.001), sleeper(0.004)])
    assert 0.001 <= fast < slow and slow >= 0.004
    assert torch.get_num_threads() == threads
