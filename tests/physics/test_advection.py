"""Momentum fluxes from the tape: the numbers of plain arithmetic, whatever ran before."""

import copy
import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from hpcsurrogate.physics.advection import LARGEST_TAPED, MOST_TAPES, StaggeredAdvection
from hpcsurrogate.physics.grid import Grid

BOX = (2 * math.pi, 3 * math.pi, 5.0)
SCHEMES = [(order, advection) for order in (2, 4, 6) for advection in ("central", "upwind")]
ROUND_OFF = 1e-12  # float64, terms of order 10; vector instructions may round as scalar ones do not


def scheme(shape, order=4, advection="upwind", dtype=torch.float64):
    return StaggeredAdvection(Grid(shape, BOX[: len(shape)], dtype), order, advection)


def noise(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def check(fluxes, velocity):
    expected = fluxes(velocity)
    with torch.no_grad():
        for _ in range(2):  # written down, then replayed
            torch.testing.assert_close(fluxes(velocity), expected, rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize(("order", "advection"), SCHEMES)
@pytest.mark.parametrize("shape", [(10, 6), (8, 6, 10)])
def test_without_gradients_the_numbers_are_the_same(shape, order, advection):
    fluxes = scheme(shape, order, advection)
    for batch in ((), (1,), (2, 3)):
        check(fluxes, noise(*batch, len(shape), *shape))


def test_a_result_is_not_changed_by_the_next_call():
    fluxes, velocity = scheme((8, 6)), noise(1, 2, 8, 6)
    with torch.no_grad():
        first = fluxes(velocity)
        copy = first.clone()
        fluxes(2 * velocity)
        assert torch.equal(first, copy)
        # Homogeneous of degree 2: nothing is left of the call before.
        torch.testing.assert_close(fluxes(3 * velocity), 9 * copy, rtol=0, atol=10 * ROUND_OFF)


def test_many_shapes_and_modes_in_turn():
    fluxes = scheme((8, 6))
    batches = [noise(size, 2, 8, 6, seed=size) for size in range(1, MOST_TAPES + 3)]
    for velocity in batches + batches:
        check(fluxes, velocity)
    with torch.inference_mode():
        from_inference = fluxes(batches[0])
    check(fluxes, batches[0])
    torch.testing.assert_close(from_inference, fluxes(batches[0]), rtol=0, atol=ROUND_OFF)


def test_threads_do_not_share_arrays():
    fluxes = scheme((32, 24))
    fields = [noise(1, 2, 32, 24, seed=seed) for seed in range(MOST_TAPES + 1)]
    expected = [fluxes(field) for field in fields]

    def repeated(number):
        with torch.no_grad():
            return max((fluxes(fields[number]) - expected[number]).abs().max().item() for _ in range(50))

    with ThreadPoolExecutor(len(fields)) as pool:
        assert max(pool.map(repeated, range(len(fields)))) < ROUND_OFF


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda fluxes: pickle.loads(pickle.dumps(fluxes))])
def test_a_copy_has_arrays_of_its_own(duplicate):
    fluxes = scheme((8, 6))
    with torch.no_grad():
        fluxes(noise(1, 2, 8, 6))
        other = duplicate(fluxes)
    check(other, noise(1, 2, 8, 6, seed=1))


def test_large_fields_leave_no_arrays_behind():
    fluxes = scheme((32, 24))
    with torch.no_grad():
        for size, tapes in ((LARGEST_TAPED // (2 * 32 * 24) + 1, 0), (1, 1)):
            fluxes(torch.ones(size, 2, 32, 24, dtype=torch.float64))
            assert len(fluxes._tapes) == tapes


@pytest.mark.parametrize(("order", "advection"), SCHEMES)
def test_gradients_are_those_of_finite_differences(order, advection):
    fluxes = scheme((8, 6, 10), order, advection)
    # Away from zero, where the magnitude of an upwind flux has no derivative.
    velocity = (2 + 0.3 * noise(1, 3, 8, 6, 10)).requires_grad_()
    assert torch.autograd.gradcheck(fluxes, (velocity,), fast_mode=True)
