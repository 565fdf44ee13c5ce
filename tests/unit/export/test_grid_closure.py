"""The guard in the file: any field gives a finite answer, and every cell that fell back is known and counted."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hpcsurrogate.core.metadata import FallbackDescription, ValidityRange
from hpcsurrogate.export.grid_closure import GridClosure, halo_of
from hpcsurrogate.export.script import script_module
from hpcsurrogate.models.cnn import PeriodicCnn
from hpcsurrogate.models.quadratic_stencil import QuadraticStencilNet
from hpcsurrogate.models.tensor_basis import TensorBasisNet

H = 0.1
NX, NY = 24, 20
FASTEST, STEEPEST = 2.0, 60.0  # noise of at most 1 m/s has gradients of at most 40 / s
LAYOUTS = ("staggered", "collocated")


class Reciprocal(nn.Module):
    """A network that fails at rest, well within its range."""

    reach = 0

    def forward(self, velocity: Tensor) -> Tensor:
        return 1 / velocity


def make_closure(kind: str, layout: str) -> torch.jit.ScriptModule:
    torch.manual_seed(0)
    networks = {
        "stencil": lambda: QuadraticStencilNet(H, 2, 1),
        "basis": lambda: TensorBasisNet((H, H), layout == "staggered", 4, 1),
        "cnn": lambda: PeriodicCnn(4, 1, 3),
        "reciprocal": Reciprocal,
    }
    return script_module(as_closure(networks[kind](), layout))


def as_closure(network: nn.Module, layout: str) -> GridClosure:
    fallback = FallbackDescription(kind="smagorinsky", constant=0.17, width=H)
    validity = ValidityRange(velocity_magnitude=(0.0, FASTEST), gradient_magnitude=(0.0, STEEPEST))
    return GridClosure(network, fallback, validity, layout, (H, H))


CLOSURES = {
    (kind, layout): make_closure(kind, layout)
    for kind in ("stencil", "basis", "cnn", "reciprocal")
    for layout in LAYOUTS
}
REACH = {"stencil": 4, "basis": TensorBasisNet((H, H), True, 4, 1).reach, "cnn": NX, "reciprocal": 0}


def flow(seed: int, batch: int = 1) -> Tensor:
    """Noise within the range in every cell."""
    noise = torch.rand(batch, 2, NX, NY, generator=torch.Generator().manual_seed(seed))
    return 2 * noise - 1


def within(cells: np.ndarray, reach: int) -> np.ndarray:
    """Cells (b, nx, ny) that have one of `cells` at most `reach` away, periodic."""
    if reach >= NX:
        return np.broadcast_to(cells.any((1, 2), keepdims=True), cells.shape)
    shifts = range(-reach, reach + 1)
    return np.any([np.roll(cells, (i, j), (-2, -1)) for i in shifts for j in shifts], axis=0)


def excess(velocity: Tensor, layout: str) -> np.ndarray:
    """How far above the range each cell is, (b, nx, ny): 1 at its edge. In float64, of the definition."""
    u, v = np.moveaxis(velocity.double().numpy(), 1, 0)
    if layout == "staggered":
        centred = (u + np.roll(u, 1, -2)) / 2, (v + np.roll(v, 1, -1)) / 2
        shear = ((np.roll(u, -1, -1) - u) / H) ** 2 + ((np.roll(v, -1, -2) - v) / H) ** 2
        shear = sum(np.roll(shear, (i, j), (-2, -1)) for i in (0, 1) for j in (0, 1)) / 4
        square = ((u - np.roll(u, 1, -2)) / H) ** 2 + ((v - np.roll(v, 1, -1)) / H) ** 2 + shear
    else:
        centred = u, v
        square = sum(((np.roll(f, -1, axis) - np.roll(f, 1, axis)) / (2 * H)) ** 2 for f in (u, v) for axis in (-2, -1))
    return np.maximum(np.hypot(*centred) / FASTEST, np.sqrt(square) / STEEPEST)


VALUES = st.one_of(
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e38, -3e38, 1e-45, -1e-40, 0.0, 5.0, 1e9]),
    st.floats(width=32),
)
PLACES = st.tuples(
    st.integers(0, 1), st.integers(0, 1), st.integers(0, NX - 1), st.integers(0, NY - 1), VALUES
)  # batch, component, x, y, value


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["stencil", "basis", "cnn", "reciprocal"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 5), places=st.lists(PLACES, max_size=6))
def test_any_field_gets_a_finite_answer_and_right_counts(kind, layout, seed, places):
    closure, velocity = CLOSURES[kind, layout], flow(seed, batch=2)
    for batch, component, i, j, value in places:
        velocity[batch, component, i, j] = value
    with torch.no_grad():
        output, counts = closure.guarded(velocity)
        alone, classical = closure.forward(velocity), closure.classical(velocity)
    assert torch.isfinite(output).all() and output.shape == velocity.shape
    with np.errstate(all="ignore"):
        above = excess(velocity, layout)
    not_finite = within(~np.isfinite(velocity.numpy()).all(1), REACH[kind])
    outside = ~(above <= 1) & ~not_finite
    edge = (np.abs(above - 1) < 1e-4).sum()
    fallen = not_finite | outside
    failed = counts[2].item()
    assert counts[1] == not_finite.sum() and abs(counts[0].item() - outside.sum()) <= edge
    if kind != "reciprocal":  # of bounded input these networks make no infinite output
        assert failed == 0
    if edge == 0:
        assert torch.equal(output.movedim(1, -1)[fallen], classical.movedim(1, -1)[fallen])
        assert (output != alone).any(1).numpy()[~within(fallen, REACH[kind])].sum() == failed
        if not fallen.any() and not failed:
            assert torch.equal(output, alone)


def test_output_that_is_not_finite_is_replaced_and_counted():
    closure, velocity = CLOSURES["reciprocal", "staggered"], flow(0)
    velocity[0, 0, 3, 4] = velocity[0, 1, 9, 9] = 0.0
    output, counts = closure.guarded(velocity)
    assert counts.tolist() == [0, 0, 2]
    assert torch.equal(output[..., 9, 9], closure.classical(velocity)[..., 9, 9])
    assert torch.equal(output[..., 5, 5], 1 / velocity[..., 5, 5])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["stencil", "basis", "cnn"])
def test_a_shifted_field_gets_the_shifted_answer(kind, layout):
    closure, velocity = CLOSURES[kind, layout], flow(1)
    velocity[0, 0, 3, 4], velocity[0, 1, 10, 10] = 7.0, 1e30
    output, counts = closure.guarded(velocity)
    shifted, shifted_counts = closure.guarded(velocity.roll((5, 7), (-2, -1)))
    assert torch.equal(shifted_counts, counts) and counts[0] > 0
    torch.testing.assert_close(shifted, output.roll((5, 7), (-2, -1)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["stencil", "basis", "reciprocal"])
def test_blocks_with_a_halo_give_the_whole_field_and_its_counts(kind, layout):
    """As ranks of a parallel host have them, with a NaN, a spike and a fast cell beside and across the cuts."""
    closure, velocity = CLOSURES[kind, layout], flow(2)
    velocity[0, 0, 11, 3], velocity[0, 1, 0, 12], velocity[0, 0, 18, 19] = float("nan"), 1e38, 9.0
    halo = {"stencil": 5, "basis": REACH["basis"] + 1, "reciprocal": 2}[kind]
    output, counts = closure.guarded(velocity)
    total = torch.zeros_like(counts)
    for i in range(0, NX, 12):
        for j in range(0, NY, 10):
            rows = torch.arange(i - halo, i + 12 + halo) % NX
            columns = torch.arange(j - halo, j + 10 + halo) % NY
            block, block_counts = closure.guarded(velocity[:, :, rows][..., columns], halo)
            assert torch.isfinite(block).all()
            total += block_counts
            inner = block[:, :, halo : halo + 12, halo : halo + 10]
            torch.testing.assert_close(inner, output[:, :, i : i + 12, j : j + 10])
    assert torch.equal(total, counts) and counts[0] > 0 and counts[1] > 0


def test_a_block_within_the_range_is_not_judged_by_its_edge():
    """Its first and last cells are no neighbours, so that a mean gradient looks like a jump there."""
    closure = as_closure(nn.Identity(), "staggered")
    closure.steepest = 20.0
    ramp = torch.linspace(-1.5, 1.5, 48)[:, None].expand(48, NY)  # 0.6 / s, and 30 / s from the last cell to the first
    velocity = torch.stack((ramp, torch.zeros_like(ramp)))[None]
    output, counts = closure.guarded(velocity, 5)
    assert counts.tolist() == [0, 0, 0] and torch.equal(output, velocity)
    assert closure.guarded(velocity)[1][0] > 0


@pytest.mark.parametrize("factor, outside", [(0.9999, 0), (1.0, 0), (1.0001, NX * NY)])
def test_the_range_ends_where_the_metadata_say(factor, outside):
    velocity = torch.tensor([0.6, -0.8]).reshape(1, 2, 1, 1).expand(1, 2, NX, NY) * FASTEST * factor
    assert CLOSURES["stencil", "staggered"].guarded(velocity)[1].tolist() == [outside, 0, 0]


def test_the_network_is_given_nothing_that_is_not_finite_of_cells_that_are_not_judged():
    closure, velocity = as_closure(nn.Identity(), "staggered"), flow(0)
    velocity[0, 0, 0, 5], velocity[0, 1, 7, -1] = float("nan"), float("inf")
    unjudged = torch.ones(1, NX, NY, dtype=torch.bool)
    assert torch.isfinite(closure.harmless(velocity, unjudged)).all()


@pytest.mark.parametrize(
    "network, halo",
    [(QuadraticStencilNet(H, 1, 1), 5), (Reciprocal(), 2), (PeriodicCnn(2, 1, 3), None), (nn.Identity(), None)],
)
def test_halo(network, halo):
    assert halo_of(network) == halo


@pytest.mark.parametrize("kind", ["stencil", "basis"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_network_depends_on_cells_within_its_declared_reach_and_on_no_other(kind, layout):
    closure, velocity = CLOSURES[kind, layout], flow(3)
    reached = np.zeros((NX, NY), bool)
    for component in range(2):
        changed = velocity.clone()
        changed[0, component, 12, 10] += 0.5
        reached |= (closure(changed) != closure(velocity)).any(1)[0].numpy()
    distances = np.abs(np.argwhere(reached) - (12, 10)).max(axis=0)
    assert distances.max() <= REACH[kind] and reached.sum() > 1


def test_float64_keeps_its_digits():
    closure = as_closure(QuadraticStencilNet(H, 2, 1), "staggered").double()
    scripted, velocity = script_module(closure), flow(4).double()
    velocity[0, 0, 1, 1] = 1e300
    output, counts = scripted.guarded(velocity)
    assert output.dtype == torch.float64 and torch.isfinite(output).all() and counts[0] > 0
    assert torch.equal(output, closure.guarded(velocity)[0])
    assert math.isclose(float(scripted.classical(flow(4).double()).sum()), 0.0, abs_tol=1e-10)
