"""A fluid's law is sound for any weights: frame, spin, dissipation, Newton's limit, smoothness, units."""

import pytest
import torch

from hpcsurrogate.models.viscous_law import ViscousLaw, contraction, strain_rate

ROUND_OFF = 1e-12
ROWS, COLUMNS = torch.triu_indices(3, 3)
NUM_CELLS = 200


@pytest.fixture
def law():
    """Weights far from those of a training, so that every term counts."""
    torch.manual_seed(0)
    found = ViscousLaw(8, 2, members=3)
    with torch.no_grad():
        for value in found.parameters():
            value.normal_()
    return found.requires_grad_(False)


@pytest.fixture
def cells():
    generator = torch.Generator().manual_seed(1)
    state = 0.5 + torch.rand(2, NUM_CELLS, generator=generator, dtype=torch.float64)
    return state[0], state[1], torch.randn(NUM_CELLS, 9, generator=generator, dtype=torch.float64)


def full(stress):
    whole = torch.zeros(len(stress), 3, 3, dtype=stress.dtype)
    whole[:, ROWS, COLUMNS] = stress
    whole[:, COLUMNS, ROWS] = stress
    return whole


def test_the_stress_turns_with_the_frame_and_does_not_see_spin(law, cells):
    density, temperature, gradient = cells
    generator = torch.Generator().manual_seed(2)
    turn = torch.linalg.qr(torch.randn(NUM_CELLS, 3, 3, generator=generator, dtype=torch.float64))[0]
    spin = torch.randn(NUM_CELLS, 3, 3, generator=generator, dtype=torch.float64)
    moved = turn @ (gradient.reshape(-1, 3, 3) + spin - spin.transpose(1, 2)) @ turn.transpose(1, 2)
    stress = full(law(density, temperature, gradient)[:, :6])
    expected = turn @ stress @ turn.transpose(1, 2)
    found = full(law(density, temperature, moved.reshape(-1, 9))[:, :6])
    assert (found - expected).abs().max() < ROUND_OFF * stress.abs().max()


def test_every_member_dissipates(law, cells):
    """sigma : D >= 0, also where D has two equal eigenvalues, for which the bound of beta is sharp."""
    density, temperature, gradient = cells
    uniaxial = torch.diag(torch.tensor([2.0, -1.0, -1.0], dtype=torch.float64)).reshape(1, 9)
    for motion in (gradient, uniaxial.expand(NUM_CELLS, 9), -uniaxial.expand(NUM_CELLS, 9)):
        strain = strain_rate(motion)
        work = contraction(law.parts(density, temperature, motion)[1], strain)
        assert (work > -ROUND_OFF * work.abs().max()).all() and (work.max() > 0)


def test_at_rest_the_fluid_is_newtonian(law, cells):
    """The stress at a rate e is the pressure at rest plus 2 eta(0) D, with an error that falls as e^2."""
    density, temperature, gradient = cells
    rest, eta = law.parts(density, temperature, 0 * gradient), law.coefficients(density, temperature, 0 * density)[0]
    assert (rest[1] == 0).all()
    misfits = []
    for rate in (1e-3, 1e-4):
        deviator = law.parts(density, temperature, rate * gradient)[1]
        misfits.append((deviator - 2 * eta[:, :, None] * rate * strain_rate(gradient)).abs().max() / rate)
    assert misfits[1] < 0.2 * misfits[0] and misfits[0] < 0.1 * eta.max()


def test_it_is_differentiable_at_rest_and_elsewhere(law, cells):
    density, temperature, gradient = (part[:2].clone().requires_grad_() for part in cells)
    assert torch.autograd.gradcheck(lambda *x: law(*x)[:, :6], (density, temperature, gradient))
    rest = torch.zeros(2, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda g: law(density, temperature, g)[:, :6], (rest,))


def test_units_do_not_matter(law, cells):
    """Other units of mass, length, time and temperature change the scales of a training, and the stress as its unit."""
    density, temperature, gradient = cells
    other = ViscousLaw(8, 2, members=3)
    other.load_state_dict(law.state_dict())
    pressure, time = 3e5, 2e-12
    units = [1e3, 1e3, 120.0, 120.0, pressure, pressure, pressure * time, 1 / time]
    other.scales *= torch.tensor(units, dtype=torch.float64)
    found = other(1e3 * density, 120 * temperature, gradient / time)[:, :6] / pressure
    expected = law(density, temperature, gradient)[:, :6]
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


def test_members_can_be_taken_and_joined(law, cells):
    parts = [law.chosen([number]) for number in range(3)]
    assert torch.equal(ViscousLaw.joined(parts)(*cells), law(*cells))
    again = ViscousLaw.of_weights(law.state_dict())
    assert torch.equal(again(*cells), law(*cells))
    single = parts[0](*cells)
    assert single[:, 6:].max() < 1e-9  # one member has no spread
