"""Artifacts of kind pointwise: of a run's network, and of a closure that somebody wrote, through file and loader."""

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hpcsurrogate.core.config import TensorBasisModel
from hpcsurrogate.core.errors import ModelRefusedError, ShapeError
from hpcsurrogate.core.metadata import FilterDescription, HostDescription
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.embed.artifact import load_artifact, manifest_path
from hpcsurrogate.export.pointwise import describe_pointwise, write_pointwise
from hpcsurrogate.export.pointwise_closure import SmagorinskyStress
from hpcsurrogate.export.stage import run_export
from hpcsurrogate.models.build import build_model
from hpcsurrogate.models.cell_stress import force_of_cells, gradient_in_cells

WIDTH, LARGEST = 0.05, 100.0  # [m], [1/s]
FILTER = FilterDescription(kind="box", width=WIDTH)
HOST = HostDescription(kind="finite_volume", order=2, grid_spacing=(WIDTH, WIDTH), time_step=0.01)


class OwnClosure(nn.Module):
    """A closure with a weight, as somebody would write it: the gradient model in three dimensions, with its trace."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1 / 12))

    def forward(self, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        gradient = velocity_gradient.reshape(-1, 3, 3)
        square = (gradient @ gradient.transpose(1, 2)).flatten(1)[:, [0, 1, 2, 4, 5, 8]]
        return self.factor * filter_width.square().unsqueeze(1) * square


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("num_dims", [2, 3])
def test_smagorinsky_becomes_an_artifact_that_gives_its_stress(tmp_path, num_dims, dtype):
    path, core = tmp_path / "smagorinsky.pt", SmagorinskyStress(num_dims, 0.1)
    written = write_pointwise(path, core, describe_pointwise("own", num_dims, FILTER, HOST, LARGEST, dtype=dtype))
    artifact = load_artifact(path)
    assert artifact.metadata == written and artifact.metadata.kind == "pointwise" and artifact.metadata.halo == 0
    gradient = torch.randn(7, num_dims**2, dtype=getattr(torch, dtype), generator=torch.Generator().manual_seed(0))
    width = torch.full((7,), 0.3, dtype=gradient.dtype)
    stress, counts = artifact.guarded(gradient, width)
    assert torch.equal(stress, core.to(gradient.dtype)(gradient, width)) and counts == (0, 0, 0)
    assert max(written.certificate.residuals.values()) < (1e-6 if dtype == "float32" else 1e-14)


def test_a_closure_of_ones_own_is_described_measured_and_kept_with_its_weights(tmp_path):
    path = tmp_path / "gradient.pt"
    write_pointwise(path, OwnClosure(), describe_pointwise("gradient model", 3, FILTER, HOST, LARGEST, 0.2))
    artifact = load_artifact(path)
    metadata, (gradient, width) = artifact.metadata, artifact.golden_inputs
    assert [port.field for port in metadata.inputs] == ["velocity_gradient", "filter_width"]
    assert metadata.outputs[0].components == ("xx", "xy", "xz", "yy", "yz", "zz")
    assert metadata.fallback.constant == 0.2 and metadata.fallback.width is None
    assert metadata.certificate.residuals["trace"] > 0.5 and metadata.certificate.residuals["rotation"] < 1e-6
    assert artifact.weights["factor"] == pytest.approx(1 / 12)
    # Its own golden cells are within the range that it names, spread over it, and without divergence.
    norms = gradient.norm(dim=1)
    assert 0.9 * LARGEST < norms.max() <= LARGEST and norms.min() < 0.1 * LARGEST
    assert (gradient[:, 0] + gradient[:, 4] + gradient[:, 8]).abs().max() < 1e-5 * LARGEST
    assert WIDTH / 2 <= width.min() < width.max() <= 1.5 * WIDTH


def test_wrong_arrays_are_refused_at_the_call(tmp_path):
    path = tmp_path / "smagorinsky.pt"
    write_pointwise(path, SmagorinskyStress(2, 0.1), describe_pointwise("own", 2, FILTER, HOST, LARGEST))
    artifact, gradient, width = load_artifact(path), torch.zeros(5, 4), torch.ones(5)
    for inputs in ((gradient,), (gradient[:, :3], width), (gradient, width[:, None]), (gradient.double(), width)):
        with pytest.raises(ShapeError, match=r"smagorinsky\.pt"):
            artifact.guarded(*inputs)


def test_a_core_that_gives_nothing_is_refused_and_not_written(tmp_path):
    path = tmp_path / "nothing.pt"
    with pytest.raises(ModelRefusedError, match="zeros or non-finite"):
        write_pointwise(path, SmagorinskyStress(2, 0.0), describe_pointwise("zero", 2, FILTER, HOST, LARGEST))
    assert not path.exists()


class WithAnIdentity(OwnClosure):
    """Uses an operator that is not on the list of a closure's."""

    def forward(self, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        turned = velocity_gradient @ torch.eye(velocity_gradient.shape[1])
        return turned[:, :6] * filter_width.square().unsqueeze(1)


class InPlace(OwnClosure):
    """Writes into a tensor."""

    def forward(self, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        stress = velocity_gradient[:, :6] * filter_width.square().unsqueeze(1)
        stress[:, 0] = 0.0
        return stress


@pytest.mark.parametrize("core", [WithAnIdentity(), InPlace()], ids=["an operator", "in place"])
def test_what_hosts_would_refuse_is_not_written(tmp_path, core):
    path = tmp_path / "refused.pt"
    with pytest.raises(ModelRefusedError, match=r"hosts would refuse the file: .* line \d+: .*operators\.txt"):
        write_pointwise(path, core, describe_pointwise("own", 3, FILTER, HOST, LARGEST))
    assert not path.exists()


# --- of a run -------------------------------------------------------------------------------------------------------


@pytest.fixture
def export_tensor_basis(experiment, paths):
    """`export_tensor_basis(dtype)` exports a tensor basis network with random weights."""

    def export(dtype="float32"):
        model = TensorBasisModel(kind="tensor_basis", channels=5, hidden_layers=1)
        sections = {
            "train": experiment.train.model_copy(update={"model": model}),
            "export": experiment.export.model_copy(update={"dtype": dtype}),
        }
        torch.manual_seed(0)
        save_file(build_model(model, experiment.host, experiment.flow, None).state_dict(), paths.weights)
        run_export(experiment.model_copy(update=sections), paths)

    return export


@pytest.fixture
def pointwise_run(export_tensor_basis):
    export_tensor_basis()


@pytest.mark.parametrize("dtype, most", [("float32", 2e-6), ("float64", 1e-14)])
def test_both_forms_of_a_network_are_written_and_are_one_closure(export_tensor_basis, paths, dtype, most):
    export_tensor_basis(dtype)
    whole, cells = load_artifact(paths.model), load_artifact(paths.pointwise)
    velocity, spacing = whole.golden_inputs[0], whole.metadata.host.grid_spacing
    gradient = gradient_in_cells(velocity, list(spacing), True)[0].flatten(1).T.contiguous()
    width = torch.full((len(gradient),), cells.metadata.filter.width, dtype=velocity.dtype)
    stress = cells(gradient, width).T.reshape(1, 3, *velocity.shape[-2:])
    expected = whole(velocity)
    force = force_of_cells(stress, list(spacing), True)
    torch.testing.assert_close(force, expected, rtol=0, atol=most * expected.abs().max().item())


def test_the_pointwise_form_knows_where_it_comes_from(pointwise_run, paths):
    whole, cells = (load_artifact(path).metadata for path in (paths.model, paths.pointwise))
    for name in ("name", "dtype", "filter", "host", "training_data_digest", "config_digest"):
        assert getattr(cells, name) == getattr(whole, name), name
    assert cells.validity.gradient_magnitude == whole.validity.gradient_magnitude
    assert cells.validity.velocity_magnitude is None and cells.fallback.width is None
    assert cells.certificate.a_priori == whole.certificate.a_priori
    assert max(cells.certificate.residuals.values()) < 1e-6


def test_its_golden_cells_are_cells_of_the_training_data(pointwise_run, paths):
    artifact = load_artifact(paths.pointwise)
    with Catalogue.read(paths.prepared).open(0) as recorded:
        velocity = torch.from_numpy(recorded.snapshot("velocity", -1)).double()[None]
    gradient = gradient_in_cells(velocity, list(artifact.metadata.host.grid_spacing), True)[0].flatten(1).T
    distances = torch.cdist(artifact.golden_inputs[0].double(), gradient)
    assert distances.min(1).values.max() < 1e-5
    assert artifact.guarded(*artifact.golden_inputs)[1] == (0, 0, 0)


def test_a_network_without_that_form_leaves_none_of_an_earlier_one(pointwise_run, experiment, paths, trained):
    run_export(experiment, paths)
    assert paths.model.exists() and not paths.pointwise.exists() and not manifest_path(paths.pointwise).exists()


class HalfPrecise(nn.Module):
    """An eddy viscosity whose layer multiplies in bfloat16."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, 9).reshape(1, 9))

    def forward(self, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        shares = (velocity_gradient.square() / velocity_gradient.square().sum(1, keepdim=True).clamp_min(1e-30)).to(
            torch.bfloat16
        )
        factor = nn.functional.linear(shares, self.weight.to(torch.bfloat16)).to(velocity_gradient.dtype)
        xx, xy, xz, yx, yy, yz, zx, zy, zz = velocity_gradient.unbind(1)
        mean = (xx + yy + zz) / 3
        strain = torch.stack((xx - mean, 0.5 * (xy + yx), 0.5 * (xz + zx), yy - mean, 0.5 * (yz + zy), zz - mean), 1)
        return -factor * filter_width.square().unsqueeze(1) * strain


def test_a_closure_may_keep_weights_in_half_precision(tmp_path):
    path = tmp_path / "half.pt"
    write_pointwise(path, HalfPrecise(), describe_pointwise("half", 3, FILTER, HOST, LARGEST))
    artifact = load_artifact(path)
    gradient, width = artifact.golden_inputs
    assert torch.equal(artifact(gradient, width), HalfPrecise()(gradient, width))
