"""What the model does with a closure's stress: signs, order of components, its two parts, the walls."""

import numpy as np
import pytest
import torch

from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.sources.openfoam import OpenFoamCase
from tests.openfoam import artifacts
from tests.openfoam.cases import channel

CELLS = (6, 8, 4)
VISCOSITY = 2e-5  # [m^2/s] of the tutorial


@pytest.mark.parametrize("scaled", [False, True])
def test_fields_are_the_stress_of_the_artifact(scaled, library, tmp_path):
    """nut and nonlinearStress make up the network's answer to the gradient that OpenFOAM itself writes.

    The network has ten tensors and knows strain from spin: a gradient that is transposed gives another stress.
    """
    artifact = artifacts.write_artifact(
        tmp_path / "pointwise.pt", artifacts.random_tensor_basis(channels=8), scaled=scaled
    )
    case = channel(tmp_path / "case", 2, CELLS)
    case.use_model("hpcsurrogate", f'artifact "{artifact}";', library)
    # The artifact's last answer is to the velocity at the end of the step, which is what is written.
    case.solve()
    case.run("postProcess", "-latestTime", "-func", "grad(U)")
    case.run("postProcess", "-latestTime", "-func", "writeCellVolumes")
    end = "0.4"
    gradient = case.field(end, "grad(U)").reshape(-1, 3, 3).transpose(0, 2, 1)  # G_ij = du_i/dx_j
    width = np.cbrt(case.field(end, "V"))
    # The cells are long, and ten times as flat at a wall as in the middle.
    given = gradient @ OpenFoamCase(case.path).mesh.shape / width[:, None, None] if scaled else gradient
    inputs = [torch.from_numpy(np.ascontiguousarray(a)) for a in (given.reshape(-1, 9), width)]
    stress = load_artifact(artifact)(*inputs).numpy()

    strain = 0.5 * (gradient + gradient.transpose(0, 2, 1))
    strain -= np.trace(strain, axis1=1, axis2=2)[:, None, None] / 3 * np.eye(3)
    strain = strain[:, *np.triu_indices(3)]
    nut, nonlinear = case.field(end, "nut"), case.field(end, "nonlinearStress")
    assert (nut >= 0).all() and 0 < (nut > 0).mean() < 1  # the network gives energy back in some cells
    # 17 digits are written of each number; the gradient is computed again from the velocity.
    np.testing.assert_allclose(nonlinear - 2 * nut[:, None] * strain, stress, rtol=0, atol=1e-12 * np.abs(stress).max())
    # Where there is an eddy viscosity it takes all the energy.
    power = (nonlinear * strain * [1, 2, 2, 1, 2, 1]).sum(1)
    scale = np.abs(stress).max() * np.abs(strain).max()
    np.testing.assert_allclose(power[nut > 0], 0, atol=1e-12 * scale)


@pytest.mark.parametrize(
    ("model_viscosity", "form", "acting"),
    [(5e-5, "stress", 5e-5), (5e-5, "eddyViscosity", 5e-5), (-5e-6, "stress", -5e-6), (-5e-6, "eddyViscosity", 0.0)],
)
def test_parabola_decelerates_at_the_sum_of_viscosities(model_viscosity, form, acting, library, tmp_path):
    """u = y (2 - y) without a pressure gradient: du/dt = -2 (nu + nu_model), exact in cells far from the walls.

    nu_model above zero acts through nut, implicitly; below zero through the explicit stress, or not at all as an eddy
    viscosity.
    """
    artifact = artifacts.write_artifact(tmp_path / "pointwise.pt", artifacts.ConstantViscosity(model_viscosity))
    num_steps, cells = 5, (4, 16, 4)
    case = channel(tmp_path / "case", num_steps, cells)
    case.make_uniform_parabola(cells)
    case.use_model("hpcsurrogate", f'artifact "{artifact}"; form {form};', library)
    case.solve()
    # What a wall does comes through eight cells, each of them taking (nu dt/h^2) = 4e-3 of it. Linear solvers end at
    # residuals of 1e-13, of velocities whose change is of order 1e-5.
    _, acceleration = case.acceleration_of_parabola(0.2 * num_steps)
    np.testing.assert_allclose(acceleration[:, 0], -2 * (VISCOSITY + acting), rtol=1e-6)


def test_restarted_run_goes_on_as_if_it_had_not_ended(library, tmp_path):
    artifact = artifacts.write_artifact(tmp_path / "pointwise.pt", artifacts.random_tensor_basis(channels=8))
    whole, halves = (channel(tmp_path / name, 10, CELLS) for name in ("whole", "halves"))
    for case in (whole, halves):
        case.use_model("hpcsurrogate", f'artifact "{artifact}";', library)
    whole.solve()
    halves.set("system/controlDict", endTime="1", writeInterval="5")
    halves.solve()
    halves.set("system/controlDict", endTime="2", startFrom="latestTime")
    halves.solve()
    for name in ("U", "nut", "nonlinearStress"):
        expected = whole.field("2", name)
        # 17 digits are written of each number.
        np.testing.assert_allclose(halves.field("2", name), expected, rtol=0, atol=1e-12 * np.abs(expected).max())
