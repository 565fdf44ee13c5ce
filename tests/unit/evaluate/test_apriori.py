"""A-priori scores with closures whose scores are known: the exact one, its opposite, none, and an eddy viscosity."""

import itertools
import math

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, SpectralHost
from hpcsurrogate.core.errors import DataError, DivergedError
from hpcsurrogate.evaluate.apriori import (
    ClosureScores,
    Samples,
    energy_transfer,
    fit_constant,
    score_closures,
)
from hpcsurrogate.evaluate.cells import deviatoric, symmetric_pairs
from hpcsurrogate.physics.closures import Gradient, Leith, NoClosure, Smagorinsky
from hpcsurrogate.physics.hosts import make_host

DELTA = 0.4


@pytest.fixture(params=["staggered", "collocated"])
def host(request):
    flow = Flow(viscosity=1e-3, domain=(2 * math.pi, 4 * math.pi))
    if request.param == "staggered":
        return make_host(FiniteVolumeHost(kind="finite_volume", grid=(12, 16), time_step=0.01), flow, torch.float64)
    return make_host(SpectralHost(kind="spectral", grid=(12, 16), dealias="shift", time_step=0.01), flow, torch.float64)


def samples_of(host, force=None, stress=None, batches=3):
    """Random divergence-free states; the exact fields are those of closures, or random ones."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(batches):
        velocity = host.project(torch.randn(2, 2, *host.grid.shape, dtype=torch.float64, generator=generator))
        noise = torch.randn(2, 7, *host.grid.shape, dtype=torch.float64, generator=generator)
        yield Samples(
            velocity=velocity,
            commutator=noise[:, :2] if force is None else force(velocity),
            sgs_force=noise[:, 2:4],
            sgs_stress=noise[:, 4:] if stress is None else torch.stack(stress(velocity), 1),
        )


def test_the_exact_closure_is_perfect_and_the_opposite_one_perfectly_wrong(host):
    exact = Gradient(host.operators, DELTA, 2)
    closures = {"exact": exact, "opposite": lambda u: -exact(u), "none": NoClosure()}
    batches = samples_of(host, exact, exact.stress)
    (right, wrong, none), backscatter = score_closures(
        host, itertools.starmap(ClosureScores, closures.items()), batches, "commutator"
    )
    for part in ("force", "transfer", "stress"):
        assert right[f"correlation_{part}"] == pytest.approx(1, abs=1e-12)
        assert right[f"relative_error_{part}"] < 1e-12
    for part in ("force", "transfer"):
        assert wrong[f"correlation_{part}"] == pytest.approx(-1, abs=1e-12)
        assert wrong[f"relative_error_{part}"] == pytest.approx(2, rel=1e-12)
        assert none[f"correlation_{part}"] is None
        assert none[f"relative_error_{part}"] == 1
    assert wrong["correlation_stress"] is None and wrong["relative_error_stress"] is None
    assert right["backscatter_fraction"] == backscatter.force
    assert wrong["backscatter_fraction"] == pytest.approx(1 - backscatter.force, abs=1e-12)
    assert (
        right["stress_backscatter_fraction"] == backscatter.stress and right["relative_error_stress_transfer"] < 1e-12
    )
    assert right["equivariance_error"] < 1e-12 and none["equivariance_error"] is None
    assert 0 < backscatter.force < 1 and none["backscatter_fraction"] == 0
    assert abs(right["correlation_sgs_force"]) < 0.3  # the other target is noise here


def test_a_gradient_part_of_the_force_does_not_count(host):
    # With a pressure p at the centres of cells, -grad p is a force without effect: the host projects it away.
    exact = Gradient(host.operators, DELTA, 2)
    pressure = torch.randn(2, *host.grid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    push = -host.operators.divergence((pressure, torch.zeros_like(pressure), pressure))
    scores = [ClosureScores("pushed", lambda u: exact(u) + push[: len(u)])]
    (pushed,), _ = score_closures(host, scores, samples_of(host, exact), "commutator")
    assert pushed["relative_error_force"] < 1e-12


def test_transfer_sums_to_the_work_and_only_the_deviatoric_stress_counts(host):
    batch = next(iter(samples_of(host)))
    work = (batch.velocity * batch.commutator).sum((1, 2, 3))
    transfer = energy_transfer(host, batch.velocity, batch.commutator).sum((1, 2))
    torch.testing.assert_close(transfer, work, rtol=1e-12, atol=1e-12)
    xx, xy, yy = batch.sgs_stress.unbind(1)
    moved = torch.stack((xx + 3, xy, yy + 3), 1)
    torch.testing.assert_close(deviatoric(moved, 2), deviatoric(batch.sgs_stress, 2), rtol=0, atol=1e-12)
    assert torch.equal(deviatoric(torch.stack((xx, xy, -xx), 1), 2), torch.stack((xx, math.sqrt(2) * xy, -xx), 1))


def test_products_of_stresses_are_those_of_the_tensors():
    """A rotation leaves tr(A B) as it is, and with it every score: tolerance, round-off of float64."""
    generator = torch.Generator().manual_seed(0)
    a, b, turn = (torch.randn(3, 3, dtype=torch.float64, generator=generator) for _ in range(3))
    a, b, (turn, _) = a + a.T, b + b.T, torch.linalg.qr(turn)

    def product(a, b):
        parts = [torch.stack([m[i, j] for i, j in symmetric_pairs(3)])[None] for m in (a, b)]
        return (deviatoric(parts[0], 3) * deviatoric(parts[1], 3)).sum()

    expected = torch.trace(a @ b) - torch.trace(a) * torch.trace(b) / 3
    torch.testing.assert_close(product(a, b), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(product(turn @ a @ turn.T, turn @ b @ turn.T), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [Smagorinsky, Leith])
def test_fit_recovers_the_constant_and_never_goes_below_zero(host, kind):
    truth = kind(host.operators, DELTA, 0.23)
    unit = kind(host.operators, DELTA, 1.0)
    assert fit_constant(host, unit, samples_of(host, truth), "commutator") == pytest.approx(0.23, rel=1e-10)
    assert fit_constant(host, unit, samples_of(host, lambda u: -truth(u)), "commutator") == 0


def test_no_samples_and_a_closure_that_blows_up_are_named(host):
    with pytest.raises(DataError, match="no sample|truth is zero"):
        score_closures(host, [ClosureScores("none", NoClosure())], [], "commutator")
    broken = ClosureScores("broken", lambda u: u * torch.nan)
    with pytest.raises(DivergedError, match="closure broken: its force is not finite"):
        score_closures(host, [broken], samples_of(host), "commutator")
