"""Principal components of patches and scalar channels: what they promise, and that they travel with the network."""

import pytest
import torch

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.models.cnn import PeriodicCnn
from hpcsurrogate.models.features import PrincipalPatches, ScalarChannels, patch_covariance

ROUND_OFF = 1e-10  # float64; a whitened component divides by the square root of a variance


@pytest.fixture
def velocity():
    """Smooth periodic fields, so that the components differ in variance, with a mean flow."""
    noise = torch.randn(3, 2, 16, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    smooth = noise + torch.roll(noise, 1, -1) + 0.5 * torch.roll(noise, 1, -2)
    return smooth + torch.tensor([0.4, -0.2], dtype=torch.float64).reshape(1, 2, 1, 1)


def fitted(velocity, patch=3, components=6):
    patches = PrincipalPatches(patch, components).double()
    patches.fit(*patch_covariance(velocity, patch))
    return patches


WIDTHS = torch.tensor([0.1, 0.2, 0.4])


def fitted_scalars(velocity):
    scalars = ScalarChannels(("filter_width", "reynolds_number"))
    scalars.fit(0.1, 1e-3, velocity.float(), WIDTHS)
    return scalars


def test_components_are_uncorrelated_with_mean_zero_and_variance_one(velocity):
    components = fitted(velocity)(velocity).permute(1, 0, 2, 3).reshape(6, -1)
    assert components.mean(1).abs().max() < ROUND_OFF
    torch.testing.assert_close(
        torch.cov(components, correction=0), torch.eye(6, dtype=torch.float64), rtol=0, atol=ROUND_OFF
    )


def test_the_first_component_has_the_largest_variance_of_all_directions(velocity):
    _, covariance = patch_covariance(velocity, 3)
    kernel = fitted(velocity).kernels[0].flatten()
    along = kernel / kernel.norm()
    largest = torch.linalg.eigvalsh(covariance)[-1]
    torch.testing.assert_close(along @ covariance @ along, largest, rtol=ROUND_OFF, atol=0)


def test_all_components_together_keep_the_whole_patch(velocity):
    # 18 whitened directions: the sum of their squares is the Mahalanobis norm, whose mean is the dimension.
    components = fitted(velocity, components=18)(velocity)
    assert components.square().sum(1).mean().item() == pytest.approx(18, rel=1e-9)


def test_moments_do_not_change_under_translation(velocity):
    moved = patch_covariance(torch.roll(velocity, (3, -2), (-2, -1)), 5)
    for found, expected in zip(moved, patch_covariance(velocity, 5), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_more_components_than_directions_with_variance_are_refused():
    # One wave along x that does not vary along y: few directions of its patches vary.
    x = torch.arange(16, dtype=torch.float64) * torch.pi / 8
    wave = torch.stack((torch.sin(x), torch.cos(x)))[None, :, :, None].expand(1, 2, 16, 12)
    with pytest.raises(ConfigError, match=r"components: 6, but velocity patches vary in 2 directions"):
        fitted(wave)


def test_scalars_enter_as_logarithms_of_mean_zero_and_variance_one(velocity):
    fields = velocity.float()
    channels = fitted_scalars(velocity)(torch.zeros(3, 1, 16, 12), fields, WIDTHS)[:, 1:]
    assert channels.shape == (3, 2, 16, 12)
    deviation, mean = torch.std_mean(channels[..., 0, 0], dim=0, correction=0)
    torch.testing.assert_close(mean, torch.zeros(2), rtol=0, atol=1e-5)  # float32 logarithms
    torch.testing.assert_close(deviation, torch.ones(2), rtol=1e-5, atol=0)


def test_the_reynolds_number_is_rms_velocity_times_width_over_viscosity(velocity):
    scalars, fields = fitted_scalars(velocity), velocity.float()
    channel = scalars(torch.zeros(3, 1, 16, 12), fields, WIDTHS)[:, 2, 0, 0]
    rms = fields.square().mean((1, 2, 3)).sqrt()
    expected = ((rms * WIDTHS / 1e-3).log() - scalars.mean[1]) / scalars.deviation[1]
    torch.testing.assert_close(channel, expected, rtol=1e-5, atol=1e-5)


def test_without_a_width_the_network_takes_that_of_its_own_experiment(velocity):
    scalars, fields, features = fitted_scalars(velocity), velocity.float(), torch.zeros(3, 1, 16, 12)
    own = scalars(features, fields, torch.full((3,), 0.1))
    torch.testing.assert_close(scalars(features, fields, None), own, rtol=0, atol=0)


def test_a_fluid_at_rest_gives_finite_channels(velocity):
    at_rest = torch.zeros(1, 2, 16, 12)
    assert fitted_scalars(velocity)(torch.zeros(1, 1, 16, 12), at_rest, None).isfinite().all()


def test_a_scalar_that_says_nothing_is_refused_by_name(velocity):
    with pytest.raises(ConfigError, match=r"filter_width is the same in all training data.*prepare\.more_filters"):
        ScalarChannels(("filter_width",)).fit(0.1, 1e-3, velocity.float(), torch.full((3,), 0.1))


def test_both_are_exported_and_restored_with_the_network(velocity):
    torch.manual_seed(0)
    patches = fitted(velocity).float()
    net = PeriodicCnn(6, 2, 3, patches=patches, scalars=fitted_scalars(velocity)).eval()
    fields = velocity.float()
    scripted = torch.jit.freeze(torch.jit.script(net))
    torch.testing.assert_close(scripted(fields), net(fields), rtol=0, atol=1e-6)
    assert (net(fields, WIDTHS) - net(fields)).abs().max() > 1e-4  # the scalars matter
    empty = ScalarChannels(("filter_width", "reynolds_number"))
    restored = PeriodicCnn(6, 2, 3, patches=PrincipalPatches(3, 6), scalars=empty)
    restored.load_state_dict(net.state_dict())
    torch.testing.assert_close(restored.eval()(fields), net(fields), rtol=0, atol=0)
