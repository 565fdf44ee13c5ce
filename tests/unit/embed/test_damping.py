"""The rates of an artifact, on one whose rates are known: the discrete Laplacian of a periodic grid."""

import math

import pytest
import torch
from torch import Tensor, nn

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.embed.damping import damping_rates
from hpcsurrogate.export.grid_closure import GridClosure
from hpcsurrogate.export.script import artifact_bytes, script_module, write_artifact
from hpcsurrogate.models.damping import DampingNet
from hpcsurrogate.physics.grid import Grid


class Drag(nn.Module):
    """Not linear: it slows fast fluid down."""

    reach = 0

    def forward(self, velocity: Tensor) -> Tensor:
        return -velocity * velocity.abs()


@pytest.fixture
def write(tmp_path, metadata, golden_input):
    def write(network, linear_damping=True):
        described = metadata.model_copy(update={"linear_damping": linear_damping})
        closure = GridClosure(network, metadata.fallback, metadata.validity, "staggered", (0.1, 0.1))
        scripted, path = script_module(closure), tmp_path / "model.pt"
        write_artifact(path, artifact_bytes(scripted, described, [golden_input], scripted(golden_input)), described)
        return load_artifact(path)

    return write


@pytest.mark.parametrize("shape", [(8, 8), (12, 16)], ids=["own grid", "another grid"])
def test_the_rates_are_those_of_the_operator(write, laplacian, shape):
    """4 nu (sin^2(kx h / 2) + sin^2(ky h / 2)), nu = 0.3: eigenvalues of the five-point sum of differences."""
    rates = damping_rates(write(laplacian.network), shape)
    mx, my = torch.fft.fftfreq(shape[0], dtype=torch.float64), torch.fft.rfftfreq(shape[1], dtype=torch.float64)
    expected = 1.2 * ((math.pi * mx).sin().square()[:, None] + (math.pi * my).sin().square())
    assert rates.shape == expected.shape and (rates >= 0).all()
    # The weight 0.3 is a float32, and so are the five values of the response: 6e-8 of each.
    assert torch.allclose(rates, expected, rtol=0, atol=5e-7)


def test_an_artifact_that_does_not_say_so_has_no_rates(write, laplacian):
    with pytest.raises(ModelRefusedError, match="is no linear damping"):
        damping_rates(write(laplacian.network, linear_damping=False), (8, 8))


def test_an_artifact_that_says_so_and_is_not_is_refused(write):
    with pytest.raises(ModelRefusedError, match="its golden output is another"):
        damping_rates(write(Drag()), (8, 8))


@pytest.mark.parametrize("num_dims", [2, 3])
def test_of_a_learned_damping_they_are_the_network_s_own(tmp_path, metadata, num_dims):
    """The exported file is asked by its answers alone, the network by its function of the wavenumber."""
    shape, spacing = (12, 16, 10)[:num_dims], (0.1, 0.2, 0.15)[:num_dims]
    axes = {"components": ("x", "y", "z")[:num_dims], "axes": "bcxyz"[: 2 + num_dims]}
    inputs, outputs = ([port.model_copy(update=axes)] for port in (*metadata.inputs, *metadata.outputs))
    host = metadata.host.model_copy(update={"grid_spacing": spacing})
    changes = {"inputs": tuple(inputs), "outputs": tuple(outputs), "host": host, "linear_damping": True}
    described = metadata.model_copy(update=changes)
    network = DampingNet(spacing, 8, velocity_rms=0.7)
    closure = GridClosure(network, metadata.fallback, metadata.validity, "staggered", spacing)
    generator = torch.Generator().manual_seed(1)
    velocity = torch.randn(1, num_dims, *shape, generator=generator)
    scripted, path = script_module(closure), tmp_path / "model.pt"
    write_artifact(path, artifact_bytes(scripted, described, [velocity], scripted(velocity)), described)
    grid = Grid(shape, tuple(n * h for n, h in zip(shape, spacing, strict=True)))
    expected = network.damping_rates(grid).detach()
    # Round-off in float32 of the largest rate, some 60 1/s here, of every mode.
    assert torch.allclose(
        damping_rates(load_artifact(path), shape), expected, rtol=0, atol=1e-5 * expected.max().item()
    )
