"""Networks that work by FFTs become artifacts that hosts accept, complex tables and all."""

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow
from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.export.certificate import measure_residuals
from hpcsurrogate.physics.advection import StaggeredAdvection
from hpcsurrogate.physics.grid import Grid
from scripts.random_artifacts import random_velocity, write_random_artifact
from tests.unit.models.test_quadratic_stencil import assert_close

DECONVOLUTION = {"kind": "deconvolution", "knots": 8}
OPERATOR = {"kind": "fourier_operator", "channels": 4, "hidden_layers": 2, "modes": 3}
HOST = FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("model", [DECONVOLUTION, OPERATOR], ids=lambda model: model["kind"])
def test_artifact_is_accepted_and_gives_the_same(model, dtype, tmp_path):
    velocity = random_velocity(HOST, dtype)
    closure = write_random_artifact(tmp_path / "model.pt", model, HOST, Flow(viscosity=1e-3), velocity)
    loaded = load_artifact(tmp_path / "model.pt")
    assert loaded.metadata.halo is None
    for field in (velocity, random_velocity(HOST.model_copy(update={"grid": (20, 12)}), dtype, seed=1)):
        expected = closure(field)
        # Tables folded into constants are rounded once more: some ten times the precision.
        assert (loaded(field) - expected).abs().max() < 1e2 * torch.finfo(dtype).eps * expected.abs().max()


@pytest.mark.parametrize("grid", [(16, 16), (12, 16, 10)])
def test_the_deconvolution_is_exported_in_place_of_the_fluxes_too(grid, tmp_path):
    host = HOST.model_copy(update={"grid": grid})
    flow = Flow(viscosity=1e-3, domain=(3.0, 4.0, 5.0)[: len(grid)])
    velocity = random_velocity(host, torch.float64)
    write_random_artifact(tmp_path / "model.pt", DECONVOLUTION, host, flow, velocity)
    loaded = load_artifact(tmp_path / "model.pt")
    fluxes = StaggeredAdvection(Grid(grid, flow.domain), 2, "central")(velocity)
    axes = tuple(range(2, velocity.ndim))
    velocity_hat = torch.fft.rfftn(velocity, dim=axes)
    rate_hat = 0.5 * sum(loaded.advection_hat(velocity_hat, grid[-1], stage) for stage in (2, 3))
    assert_close(torch.fft.irfftn(rate_hat, s=grid, dim=axes), loaded(velocity) + fluxes)


def test_other_networks_have_nothing_to_put_in_place_of_the_fluxes(tmp_path):
    velocity = random_velocity(HOST)
    write_random_artifact(tmp_path / "model.pt", OPERATOR, HOST, Flow(viscosity=1e-3), velocity)
    loaded = load_artifact(tmp_path / "model.pt")
    assert not loaded.has_advection
    with pytest.raises(ModelRefusedError, match="has no `advection_hat`; add what it returns"):
        loaded.advection_hat(torch.fft.rfft2(velocity), velocity.shape[-1], 0)


def test_certificate_of_the_deconvolution(tmp_path):
    velocity = random_velocity(HOST)
    closure = write_random_artifact(tmp_path / "model.pt", DECONVOLUTION, HOST, Flow(viscosity=1e-3), velocity)
    residuals = measure_residuals(closure.network, velocity, "staggered", tuple(closure.spacing))
    # Exact in the mathematics; float32 FFTs leave some 1e-6.
    for name in ("reflection_x", "reflection_y", "transposition", "rotation_90", "momentum"):
        assert residuals[name] < 1e-5, name
