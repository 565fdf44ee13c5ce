"""Artifacts for OpenFOAM whose answer is known: its own Smagorinsky model, and others with random weights."""

from pathlib import Path

import torch
from torch import Tensor, nn

from hpcsurrogate.core.metadata import FilterDescription, HostDescription
from hpcsurrogate.export.cells import write_force, write_reynolds_stress
from hpcsurrogate.export.pointwise import describe_pointwise, write_pointwise
from hpcsurrogate.models.tensor_basis import TensorBasisStress


class OpenFOAMSmagorinsky(nn.Module):
    """The stress of OpenFOAM's Smagorinsky, whose energy k balances production and dissipation.

        Ce k^1.5 / Delta = -tau_ij S_ij,   tau = 2/3 k I - 2 nut S_dev,   nut = Ck Delta sqrt(k)

    With a divergence, which a gradient at cells has even if the fluxes balance, k is the root of a quadratic.
    """

    def __init__(self, ck: float = 0.094, ce: float = 1.048):
        super().__init__()
        self.ck, self.ce = ck, ce

    def forward(self, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        """Deviatoric stress (n, 6) [m^2/s^2] of gradients (n, 9) [1/s] and widths (n,) [m]."""
        xx, xy, xz, yx, yy, yz, zx, zy, zz = velocity_gradient.unbind(1)
        divergence = xx + yy + zz
        mean = divergence / 3
        off_diagonal = (0.5 * (xy + yx), 0.5 * (xz + zx), 0.5 * (yz + zy))
        strain = torch.stack(
            (xx - mean, off_diagonal[0], off_diagonal[1], yy - mean, off_diagonal[2], zz - mean), dim=1
        )
        twice = torch.tensor([1, 2, 2, 1, 2, 1], dtype=strain.dtype)
        a, b = self.ce / filter_width, 2 / 3 * divergence
        c = 2 * self.ck * filter_width * (strain.square() * twice).sum(1)
        root_k = (-b + (b.square() + 4 * a * c).sqrt()) / (2 * a)
        # A branch that is never used divides zero by zero in every cell: a host that traps that would end.
        root_k = torch.where(filter_width > 0, root_k, (c - c) / (b - b))
        return -2 * (self.ck * filter_width * root_k).unsqueeze(1) * strain


class ConstantViscosity(nn.Module):
    """tau_dev = -2 nu S_dev, whose flow is the laminar one at another viscosity; below zero it gives energy back.

    Parameters
    ----------
    viscosity : float    [m^2/s]
    """

    def __init__(self, viscosity: float):
        super().__init__()
        self.viscosity = viscosity

    def forward(self, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        """Deviatoric stress (n, 6) [m^2/s^2] of gradients (n, 9) [1/s] and widths (n,) [m], which do not matter."""
        xx, xy, xz, yx, yy, yz, zx, zy, zz = velocity_gradient.unbind(1)
        mean = (xx + yy + zz) / 3
        twice_strain = (2 * (xx - mean), xy + yx, xz + zx, 2 * (yy - mean), yz + zy, 2 * (zz - mean))
        return -self.viscosity * torch.stack(twice_strain, dim=1)


class CurvedStress(nn.Module):
    """A Reynolds stress that is not along the strain, of T = k/epsilon and spin W.

        R = k (-2 c T D + 0.2 T^2/(1 + T^2 |G|^2) (D W - W D))

    Parameters
    ----------
    viscosity : float    c [-]; below zero the stress gives energy to the mean flow
    """

    def __init__(self, viscosity: float):
        super().__init__()
        self.viscosity = viscosity

    def forward(self, velocity_gradient: Tensor, turbulent_energy: Tensor, dissipation: Tensor) -> Tensor:
        """Deviatoric stress (n, 6) [m^2/s^2] of gradients (n, 9), energies (n,) and dissipations (n,)."""
        gradient = velocity_gradient.reshape(-1, 3, 3) * (turbulent_energy / dissipation)[:, None, None]
        transposed = gradient.transpose(1, 2)
        strain, spin = 0.5 * (gradient + transposed), 0.5 * (gradient - transposed)
        mean = (strain[:, 0, 0] + strain[:, 1, 1] + strain[:, 2, 2]) / 3
        strain = strain - mean[:, None, None] * torch.tensor(
            [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], dtype=strain.dtype
        ).reshape(3, 3)
        weight = 0.2 / (1 + gradient.square().sum((1, 2)))
        tensor = -2 * self.viscosity * strain + weight[:, None, None] * (strain @ spin - spin @ strain)
        return turbulent_energy.unsqueeze(1) * tensor.flatten(1)[:, [0, 1, 2, 4, 5, 8]]


def write_reynolds(path: Path, stress: nn.Module, largest: float = 1e7) -> Path:
    """Write a Reynolds stress as an artifact; `largest` is its range of |G| k/epsilon [-]."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(300, 9, generator=generator, dtype=torch.float64)
    gradient *= largest / gradient.norm(dim=1).max()
    write_reynolds_stress(path, stress, (gradient, *torch.ones(2, 300, dtype=torch.float64)), "known")
    return path


class KnownForce(nn.Module):
    """f_x = a + b du/dy + c u, f_z = d Delta: another order of components, or a gradient transposed, is another force.

    Parameters
    ----------
    a, b, c, d : float    [m/s^2], [m/s], [1/s], [1/s^2]
    """

    def __init__(self, a: float, b: float = 0.0, c: float = 0.0, d: float = 0.0):
        super().__init__()
        self.a, self.b, self.c, self.d = a, b, c, d

    def forward(self, velocity: Tensor, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        """Acceleration (n, 3) [m/s^2] of velocities (n, 3), gradients (n, 9) and widths (n,)."""
        along = self.a + self.b * velocity_gradient[:, 1] + self.c * velocity[:, 0]
        return torch.stack((along, torch.zeros_like(along), self.d * filter_width), dim=1)


def write_known_force(path: Path, force: KnownForce, largest: float = 1e3) -> Path:
    """Write a force as an artifact; `largest` is its range of velocities [m/s] and gradients [1/s]."""
    generator = torch.Generator().manual_seed(0)
    velocity, gradient = (torch.randn(300, n, generator=generator, dtype=torch.float64) for n in (3, 9))
    reach = (values * (largest / values.norm(dim=1).max()) for values in (velocity, gradient))
    write_force(path, force, (*reach, torch.full((300,), 0.1, dtype=torch.float64)), "known")
    return path


def write_artifact(
    path: Path, core: nn.Module, largest_gradient: float = 1e7, dtype: str = "float64", scaled: bool = False
) -> Path:
    """Write a closure of cells as an artifact for three dimensions; `largest_gradient` [1/s]."""
    host = HostDescription(kind="finite_volume", order=2, grid_spacing=(0.1, 0.1, 0.1), time_step=0.1)
    described = FilterDescription(kind="box", width=0.1)
    metadata = describe_pointwise(type(core).__name__, 3, described, host, largest_gradient, dtype=dtype, scaled=scaled)
    write_pointwise(path, core, metadata)
    return path


def random_tensor_basis(channels: int, hidden_layers: int = 2) -> TensorBasisStress:
    """Return a tensor basis network with random weights, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TensorBasisStress(3, channels, hidden_layers)
