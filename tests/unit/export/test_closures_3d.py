"""Closures on grids of three dimensions: the cube's symmetries, blocks, the guard, the certificate, the file."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hpcsurrogate.core.errors import ModelRefusedError, ShapeError
from hpcsurrogate.core.metadata import (
    ArtifactMetadata,
    Certificate,
    FallbackDescription,
    FilterDescription,
    HostDescription,
    ValidityRange,
)
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.embed.card import card
from hpcsurrogate.export.certificate import measure_residuals, reflect, transpose
from hpcsurrogate.export.describe import field_port
from hpcsurrogate.export.fallback import FALLBACK_REACH, SmagorinskyForce
from hpcsurrogate.export.grid_closure import GridClosure, halo_of
from hpcsurrogate.export.parity import TOLERANCES, random_inputs
from hpcsurrogate.export.script import artifact_bytes, parity, script_module, write_artifact
from hpcsurrogate.export.verify import verify_artifact
from hpcsurrogate.models.cnn import PeriodicCnn
from hpcsurrogate.models.tensor_basis import TensorBasisNet

SPACING = (0.1, 0.12, 0.15)
POINTS = (16, 12, 10)
FASTEST, STEEPEST = 2.0, 60.0  # noise of at most 1 m/s has gradients of at most 50 / s
ROUND_OFF = 1e-12  # float64, relative to the largest value
in_both_layouts = pytest.mark.parametrize("layout", ["staggered", "collocated"])
AXES = (0, 1, 2)


def noise(points=POINTS, seed=0, dtype=torch.float32) -> Tensor:
    field = torch.rand(1, 3, *points, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * field - 1).to(dtype)


def tensor_basis(layout: str, spacing=SPACING) -> TensorBasisNet:
    torch.manual_seed(0)
    network = TensorBasisNet(spacing, layout == "staggered", channels=5, hidden_layers=1)
    with torch.no_grad():
        for parameter in network.stress.layers[-1].parameters():
            parameter.mul_(10)  # else the first tensor alone shows
    return network.requires_grad_(False)


def cnn(layout: str) -> PeriodicCnn:
    torch.manual_seed(0)
    return PeriodicCnn(4, 1, 3, num_dims=3).requires_grad_(False)


def guarded_closure(network, layout: str, spacing=SPACING) -> GridClosure:
    fallback = FallbackDescription(kind="smagorinsky", constant=0.17, width=0.12)
    validity = ValidityRange(velocity_magnitude=(0.0, FASTEST), gradient_magnitude=(0.0, STEEPEST))
    return GridClosure(network, fallback, validity, layout, spacing)


def assert_close(computed: Tensor, expected: Tensor) -> None:
    scale = expected.abs().max().item()
    assert scale > 0
    torch.testing.assert_close(computed, expected, rtol=0, atol=ROUND_OFF * scale)


def symmetries_of_the_cube(layout: str):
    """All 48: each order of the axes with each choice of mirrored ones."""
    for order in itertools.permutations(AXES):
        for mirrored in itertools.product((False, True), repeat=3):

            def turn(field: Tensor, order=order, mirrored=mirrored) -> Tensor:
                field = field[:, order].permute(0, 1, *(axis + 2 for axis in order))
                for axis in AXES:
                    field = reflect(field, axis, layout) if mirrored[axis] else field
                return field

            yield turn


# --- the symmetries themselves --------------------------------------------------------------------------------------


def sampled(layout: str, functions, points=POINTS) -> Tensor:
    """Components sin(k.x + phase) of (k, phase), at the points of the layout in a box of side 2 pi."""
    components = []
    for number, (k, phase) in enumerate(functions):
        angle = torch.tensor(phase, dtype=torch.float64)
        for axis, count in enumerate(points):
            offset = (1.0 if number == axis else 0.5) if layout == "staggered" else 0.0
            place = (torch.arange(count, dtype=torch.float64) + offset) * 2 * math.pi / count
            angle = angle + k[axis] * place.reshape([-1 if other == axis else 1 for other in AXES])
        components.append(torch.sin(angle))
    return torch.stack(torch.broadcast_tensors(*components))[None]


WAVES = (((1, -2, 1), 0.3), ((2, 1, -1), -0.8), ((-1, 1, 3), 1.1))


@in_both_layouts
@pytest.mark.parametrize("axis", AXES)
def test_reflection_is_that_of_the_sampled_field(layout, axis):
    def mirrored(k):
        return tuple(-value if other == axis else value for other, value in enumerate(k))

    # u_axis changes its sign: -sin(a) = sin(a + pi).
    functions = [(mirrored(k), phase + (math.pi if number == axis else 0)) for number, (k, phase) in enumerate(WAVES)]
    computed = reflect(sampled(layout, WAVES), axis, layout)
    torch.testing.assert_close(computed, sampled(layout, functions), rtol=0, atol=1e-13)


@in_both_layouts
@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (1, 2)])
def test_transposition_is_that_of_the_sampled_field(layout, pair):
    order = list(AXES)
    order[pair[0]], order[pair[1]] = pair[1], pair[0]
    functions = [(tuple(WAVES[number][0][axis] for axis in order), WAVES[number][1]) for number in order]
    points = tuple(POINTS[axis] for axis in order)
    computed = transpose(sampled(layout, WAVES), *pair)
    torch.testing.assert_close(computed, sampled(layout, functions, points), rtol=0, atol=1e-13)


# --- networks -------------------------------------------------------------------------------------------------------


@in_both_layouts
def test_tensor_basis_is_equivariant_under_all_symmetries_of_the_cube(layout):
    network, velocity = tensor_basis(layout, (0.1,) * 3).double(), noise((6, 6, 6), dtype=torch.float64)
    force, turns = network(velocity), list(symmetries_of_the_cube(layout))
    assert len(turns) == 48
    for turn in turns:
        assert_close(network(turn(velocity).contiguous()), turn(force))


@in_both_layouts
def test_tensor_basis_keeps_momentum_scaling_and_galilean_invariance(layout):
    network, velocity = tensor_basis(layout).double(), noise(dtype=torch.float64)
    force = network(velocity)
    assert force.sum((2, 3, 4)).abs().max() < ROUND_OFF * force.abs().sum()
    assert_close(network(3 * velocity), 9 * force)
    assert_close(network(velocity + torch.tensor([0.5, -1.0, 2.0]).reshape(1, 3, 1, 1, 1)), force)
    assert_close(network(velocity.roll((1, -2, 3), (2, 3, 4))), force.roll((1, -2, 3), (2, 3, 4)))
    assert network.filter_width.item() == pytest.approx((0.1 * 0.12 * 0.15) ** (1 / 3))


@in_both_layouts
def test_a_plane_flow_gets_the_force_of_the_network_in_two_dimensions(layout):
    """A flow that does not change along z and has no w: with the third dimension's tensors off, the plane's force."""
    plane, space = TensorBasisNet(SPACING[:2], layout == "staggered", 4, 1).double(), tensor_basis(layout).double()
    for network, count in ((plane, 2), (space, 10)):
        network.filter_width.fill_(0.1)
        network.stress.layers[-1].weight.data.zero_()
        network.stress.layers[-1].bias.data = torch.tensor([-0.4, 0.3] + [0.0] * (count - 2), dtype=torch.float64)
    # Of a velocity without divergence, since in three dimensions a third of it is taken off and not a half.
    stream = noise((16, 12, 1), seed=3, dtype=torch.float64)[:, 0, :, :, 0]
    if layout == "staggered":
        u = (stream - stream.roll(1, -1)) / SPACING[1]
        v = -(stream - stream.roll(1, -2)) / SPACING[0]
    else:
        u = (stream.roll(-1, -1) - stream.roll(1, -1)) / SPACING[1]
        v = -(stream.roll(-1, -2) - stream.roll(1, -2)) / SPACING[0]
    flat = torch.stack((u, v), 1)
    deep = torch.stack((u, v, torch.zeros_like(u)), 1)[..., None].expand(-1, -1, -1, -1, 4).contiguous()
    force = space(deep)
    assert_close(force[:, :2, :, :, 1], plane(flat))
    assert force[:, 2].abs().max() < ROUND_OFF * force.abs().max()


@in_both_layouts
def test_a_network_depends_on_cells_within_its_reach_and_on_no_other(layout):
    network, velocity = tensor_basis(layout), noise()
    changed = velocity.clone()
    changed[0, :, 7, 6, 5] += 0.5
    reached = (network(changed) != network(velocity)).any(1)[0].nonzero()
    assert (reached - torch.tensor([7, 6, 5])).abs().max() == network.reach == 2


# --- the classical closure ------------------------------------------------------------------------------------------


@in_both_layouts
def test_smagorinsky_in_shear_of_each_pair_of_axes_is_that_of_two_dimensions(layout):
    """u_i(x_j) alone: the force of the plane's closure, at whichever axes."""
    staggered = layout == "staggered"
    for row, column in itertools.permutations(AXES, 2):
        points = tuple(POINTS[column] if axis == column else 4 for axis in AXES)
        profile = noise((1, 1, POINTS[column]), seed=5, dtype=torch.float64)[0, 0, 0, 0]
        velocity = torch.zeros(1, 3, *points, dtype=torch.float64)
        velocity[0, row] = profile.reshape([-1 if axis == column else 1 for axis in AXES])
        force = SmagorinskyForce(0.17, 0.1, SPACING, staggered)(velocity)
        plane = torch.zeros(1, 2, 4, POINTS[column], dtype=torch.float64)
        plane[0, 0] = profile
        expected = SmagorinskyForce(0.17, 0.1, (SPACING[row], SPACING[column]), staggered)(plane)[0, 0, 0]
        line = force[0, row].movedim(column, -1)[0, 0]
        assert_close(line, expected)


@in_both_layouts
def test_smagorinsky_moves_momentum_about_takes_energy_out_and_is_local(layout):
    closure = SmagorinskyForce(0.17, 0.1, SPACING, layout == "staggered")
    velocity = noise(dtype=torch.float64)
    force = closure(velocity)
    assert force.mean((2, 3, 4)).abs().max() < 1e-13 * force.abs().max()
    assert float((velocity * force).sum()) < 0
    changed = velocity.clone()
    changed[:, :, 7, 6, 5] += 1.0
    moved = (closure(changed) != force).any(1)[0].nonzero()
    assert (moved - torch.tensor([7, 6, 5])).abs().max() == FALLBACK_REACH


# --- the guard ------------------------------------------------------------------------------------------------------


def near(cell: tuple[int, int, int], reach: int) -> np.ndarray:
    """Cells at most `reach` from a cell along each axis, periodic."""
    distances = []
    for axis, count in enumerate(POINTS):
        distance = np.abs(np.arange(count) - cell[axis])
        distances.append(np.minimum(distance, count - distance) <= reach)
    return distances[0][:, None, None] & distances[1][None, :, None] & distances[2][None, None, :]


@in_both_layouts
@pytest.mark.parametrize("make", [tensor_basis, cnn])
def test_within_the_range_the_guard_changes_no_bit(layout, make):
    closure = script_module(guarded_closure(make(layout), layout))
    velocity = noise()
    output, counts = closure.guarded(velocity)
    assert torch.equal(output, closure(velocity)) and counts.tolist() == [0, 0, 0]


@in_both_layouts
def test_a_nan_in_a_corner_costs_the_cells_within_reach(layout):
    closure, velocity = script_module(guarded_closure(tensor_basis(layout), layout)), noise()
    calm = closure(velocity)
    velocity[0, 2, 0, 0, 0] = torch.nan
    output, counts = closure.guarded(velocity)
    fallen = near((0, 0, 0), 2)
    assert torch.isfinite(output).all() and counts.tolist() == [0, fallen.sum(), 0] == [0, 125, 0]
    classical = closure.classical(velocity)
    assert torch.equal(output[0][:, fallen], classical[0][:, fallen])
    assert torch.equal(output[0][:, ~fallen], calm[0][:, ~fallen])


@in_both_layouts
def test_of_a_network_without_a_reach_all_cells_fall_back(layout):
    closure, velocity = script_module(guarded_closure(cnn(layout), layout)), noise()
    velocity[0, 0, 3, 3, 3] = torch.inf
    output, counts = closure.guarded(velocity)
    assert torch.isfinite(output).all() and counts.tolist() == [0, math.prod(POINTS), 0]


@in_both_layouts
def test_blocks_with_a_halo_give_the_whole_field_and_its_counts(layout):
    """As ranks of a parallel host have them, with a NaN, a spike and a fast cell beside and across the cuts."""
    network = tensor_basis(layout)
    closure, halo, velocity = script_module(guarded_closure(network, layout)), halo_of(network), noise(seed=2)
    velocity[0, 0, 7, 5, 4], velocity[0, 1, 0, 11, 9], velocity[0, 2, 15, 0, 5] = torch.nan, 1e38, 9.0
    output, counts = closure.guarded(velocity)
    total, sizes = torch.zeros_like(counts), [count // 2 for count in POINTS]
    for corner in itertools.product(*((0, size) for size in sizes)):
        block = velocity
        for axis, (start, size, count) in enumerate(zip(corner, sizes, POINTS, strict=True), 2):
            block = block.index_select(axis, torch.arange(start - halo, start + size + halo) % count)
        found, block_counts = closure.guarded(block, halo)
        assert torch.isfinite(found).all()
        total += block_counts
        expected = output
        for axis, (start, size) in enumerate(zip(corner, sizes, strict=True), 2):
            found, expected = found.narrow(axis, halo, size), expected.narrow(axis, start, size)
        torch.testing.assert_close(found, expected)
    assert torch.equal(total, counts) and counts[0] > 0 and counts[1] > 0


# --- the certificate and the file -----------------------------------------------------------------------------------


@in_both_layouts
def test_certificate_of_a_cube_and_of_a_box(layout):
    network = tensor_basis(layout, (0.1,) * 3).double()
    residuals = measure_residuals(network, noise((8, 8, 8), dtype=torch.float64), layout, (0.1,) * 3)
    turned = [f"transposition_{pair}" for pair in ("xy", "xz", "yz")] + [f"rotation_90_{axis}" for axis in "xyz"]
    mirrored = [f"reflection_{axis}" for axis in "xyz"]
    assert set(residuals) == {"galilean_invariance", "momentum", "uniform_flow", *mirrored, *turned}
    assert max(residuals.values()) < ROUND_OFF
    of_box = measure_residuals(tensor_basis(layout), noise((8, 8, 6)), layout, (0.1, 0.1, 0.1))
    assert {name for name in of_box if name in turned} == {"transposition_xy", "rotation_90_z"}


def test_a_broken_symmetry_shows_along_its_axis_alone():
    """One-sided differences along z: mirrored along z another closure; x and y are as good as each other."""
    residuals = measure_residuals(lambda u: u - u.roll(1, -1), noise((8, 8, 8)), "collocated", (0.1,) * 3)
    broken = {name for name, residual in residuals.items() if residual > 0.1}
    assert broken == {"reflection_z", "transposition_xz", "transposition_yz", "rotation_90_x", "rotation_90_y"}
    assert max(residual for name, residual in residuals.items() if name not in broken) < 1e-6


def write_closure(path, network, layout="staggered", **more) -> ArtifactMetadata:
    closure, golden = script_module(guarded_closure(network, layout)), noise()
    metadata = ArtifactMetadata(
        name="box", kind="grid", inputs=(field_port("velocity", 3, layout),),
        outputs=(field_port("commutator", 3, layout),), dtype="float32",
        filter=FilterDescription(kind="face_average", width=0.12),
        host=HostDescription(kind="finite_volume", order=2, advection="upwind", grid_spacing=SPACING, time_step=0.01),
        validity=ValidityRange(velocity_magnitude=(0.0, FASTEST), gradient_magnitude=(0.0, STEEPEST)),
        halo=halo_of(network), fallback=FallbackDescription(kind="smagorinsky", constant=0.17, width=0.12),
        training_data_digest="0" * 64, config_digest="0" * 64, provenance={},
        certificate=Certificate(residuals=measure_residuals(closure, golden, layout, SPACING), a_priori={}), **more,
    )  # fmt: skip
    with torch.no_grad():
        content = artifact_bytes(closure, metadata, [golden], closure(golden))
    write_artifact(path, content, metadata)
    return metadata


@pytest.mark.parametrize("make", [tensor_basis, cnn])
def test_the_file_is_loaded_called_and_verified(tmp_path, make):
    network = make("staggered")
    metadata = write_closure(tmp_path / "model.pt", network)
    artifact, velocity = load_artifact(tmp_path / "model.pt"), noise((8, 10, 6), seed=4)
    assert artifact.metadata == metadata and metadata.inputs[0].axes == "bcxyz"
    assert artifact.metadata.facts()["input_0"] == "velocity m/s staggered bcxyz x,y,z"
    torch.testing.assert_close(artifact(velocity), network(velocity))
    with pytest.raises(ShapeError, match=r"\(batch, 3, nx, ny, nz\)"):
        artifact(velocity[..., 0])
    findings = verify_artifact(tmp_path / "model.pt")
    assert findings["guard_holds"] and set(findings["residuals"]) == set(findings["certified"])
    text = card(metadata, "f" * 64, "model.pt")
    for words in ("of order 2 with upwind fluxes", "0.1 by 0.12 by 0.15 m", "(b, 3, nx, ny, nz)", "(nx, ny, nz, 3)"):
        assert words in text
    assert "{1, 3, nx, ny, nz}" in text and "mirrored flow along z" in text


def test_verify_measures_the_residuals_anew(tmp_path):
    metadata = write_closure(tmp_path / "model.pt", cnn("staggered"))
    assert metadata.certificate.residuals["reflection_z"] > 0.1
    artifact = load_artifact(tmp_path / "model.pt")
    flattered = metadata.certificate.model_copy(
        update={"residuals": {**metadata.certificate.residuals, "reflection_z": 1e-7}}
    )
    content = artifact_bytes(
        artifact.module, metadata.model_copy(update={"certificate": flattered}), artifact.golden_inputs,
        artifact.golden_output,
    )  # fmt: skip
    write_artifact(tmp_path / "model.pt", content)
    with pytest.raises(ModelRefusedError, match="residual 'reflection_z'"):
        verify_artifact(tmp_path / "model.pt")


@in_both_layouts
@pytest.mark.parametrize("make", [tensor_basis, cnn])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scripted_is_the_eager_one_on_boxes_of_many_sizes(layout, make, dtype):
    network = make(layout).to(dtype)
    closure = guarded_closure(network, layout).to(dtype)
    scripted = script_module(closure)
    shapes = set()
    for (velocity,) in random_inputs([noise(dtype=dtype)], 6):
        shapes.add(velocity.shape)
        assert velocity.shape[1] == 3 and parity(closure, scripted, velocity) <= TOLERANCES[dtype]
    assert len(shapes) > 2
