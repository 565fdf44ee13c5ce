"""A fluid's stress from density, temperature and strain rate: an ensemble of small networks in a sound frame.

    sigma = -p I + 2 eta D + beta (D^2)_dev       p, eta, beta: functions of rho, T and gamma^2
    eta = eta_0 exp(y_1) > 0,   p = p_0 + p_1 y_2,   beta = 2 sqrt(6) eta tanh(y_3) / sqrt(gamma_s^2 + |D|^2)
    y = linear + quadratic terms of x + a network with tanh,   x = ((rho - rho_0) / rho_1, (T - T_0) / T_1, s)
    s = log(1 + (gamma / gamma_s)^2) / 2          gamma_s is trained: where the fluid stops being Newtonian

Legend: m members, n cells; G_ij = du_i/dx_j; D = symmetric part of G less its trace; |D|^2 = D_ij D_ij; gamma^2 =
2 |D|^2, so that gamma is the rate of a simple shear; _dev = less its trace; a stress is xx, xy, xz, yy, yz, zz.

D alone enters, so a turned frame sees a turned stress and a spin changes nothing (Noll's reduced form of an isotropic
simple fluid of the first kind; Truesdell and Noll 1965, sections 26 and 119, Reiner and Rivlin's fluid). As |tr D^3| <=
|D|^3 / sqrt(6), sigma : D >= 0 for all weights. All is a smooth function of gamma^2, so at rest the fluid is Newton's.
What runs of shear do not teach: the trace of G is left out, there is no volume viscosity; and sigma_xx = sigma_yy in a
simple shear, there is no first normal stress difference in any function of D. Linear and quadratic terms of s, rho and
T in log eta hold the law of Carreau (1972, doi:10.1122/1.549276), its viscosity at rest log-quadratic in rho and T.
"""

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

NUM_STATE = 3  # density, temperature, rate
NUM_TERMS = 9  # linear and quadratic ones
NUM_OUTPUTS = 3
# Standard deviation of outputs over the weights that a network starts with, which is also the prior of its training.
PRIOR_OUTPUT = 0.3
PRIOR_LINEAR = 1.0
SMALLEST_SPREAD = 1e-12  # of the unit of stress: keeps the root of the variance smooth where all members agree
LEAST_DISSIPATION = 2 * math.sqrt(6)


class MemberLinear(nn.Module):
    """A layer for each member. `spread` is the standard deviation of its first weights."""

    def __init__(self, members: int, num_inputs: int, num_outputs: int, spread: float, bias_spread: float):
        super().__init__()
        self.spread, self.bias_spread = spread, bias_spread
        self.weight = nn.Parameter(spread * torch.randn(members, num_inputs, num_outputs, dtype=torch.float64))
        self.bias = nn.Parameter(bias_spread * torch.randn(members, 1, num_outputs, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """(m, n, inputs) to (m, n, outputs)."""
        return torch.baddbmm(self.bias, x, self.weight)


class ViscousLaw(nn.Module):
    """Stress and its uncertainty from density, temperature and velocity gradient, in any consistent units.

    Parameters
    ----------
    channels, hidden_layers : int
    members : int       networks of the ensemble, side by side

    Attributes
    ----------
    scales : Tensor, shape (8,), float64        rho_0, rho_1, T_0, T_1, p_0, p_1, eta_0 and the first gamma_s: of the
                                                training data, so that units do not matter
    calibration : Tensor, shape (2,), float64   factors on the ensemble's spread, of pressure and of the deviator

    Notes
    -----
    Turns with the frame, does not see spin, dissipates, and is Newtonian and smooth at rest, for any weights
    (tests/unit/models/test_viscous_law.py).
    """

    def __init__(self, channels: int, hidden_layers: int, members: int = 1):
        super().__init__()
        self.channels, self.hidden_layers, self.members = channels, hidden_layers, members
        # TorchScript reads no constants of a module.
        self.smallest_spread, self.least_dissipation = SMALLEST_SPREAD, LEAST_DISSIPATION
        widths = [NUM_STATE] + [channels] * hidden_layers
        self.layers = nn.ModuleList(
            MemberLinear(members, a, b, 1 / math.sqrt(a), 1.0) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.last = MemberLinear(members, channels, NUM_OUTPUTS, PRIOR_OUTPUT / math.sqrt(channels), 0.0)
        self.terms = MemberLinear(members, NUM_TERMS, NUM_OUTPUTS, 0.0, 0.0)
        self.log_rate = nn.Parameter(torch.zeros(members, 1, dtype=torch.float64))
        self.register_buffer("scales", torch.tensor([1, 1, 1, 1, 0, 1, 1, 1], dtype=torch.float64))
        self.register_buffer("calibration", torch.ones(2, dtype=torch.float64))
        self.register_buffer("on_diagonal", torch.tensor([1, 0, 0, 1, 0, 1], dtype=torch.float64), persistent=False)

    def forward(self, density: Tensor, temperature: Tensor, velocity_gradient: Tensor) -> Tensor:
        """Stress and standard deviation side by side.

        Parameters
        ----------
        density, temperature : Tensor, shape (n,), float64
        velocity_gradient : Tensor, shape (n, 9), float64    row by row

        Returns
        -------
        Tensor, shape (n, 12)    mean stress of the members, and the calibrated standard deviation of each component
        """
        pressure, deviator = self.parts(density, temperature, velocity_gradient)
        mean, mean_pressure = deviator.mean(0), pressure.mean(0)
        count = max(self.members - 1, 1)
        varying = (deviator - mean).square().sum(0) / count * self.calibration[1].square()
        of_pressure = (pressure - mean_pressure).square().sum(0) / count * self.calibration[0].square()
        least = (self.smallest_spread * self.scales[5]).square()
        error = (varying + of_pressure.unsqueeze(1) * self.on_diagonal + least).sqrt()
        return torch.cat((mean - mean_pressure.unsqueeze(1) * self.on_diagonal, error), 1)

    def parts(self, density: Tensor, temperature: Tensor, velocity_gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Pressure (m, n), minus the mean normal stress, and deviator (m, n, 6) of every member; arguments as above."""
        strain = strain_rate(velocity_gradient)
        rate_squared = 2 * contraction(strain, strain)
        viscosity, pressure, beta = self.coefficients(density, temperature, rate_squared)
        return pressure, 2 * viscosity.unsqueeze(2) * strain + beta.unsqueeze(2) * squared_deviator(strain)

    def coefficients(self, density: Tensor, temperature: Tensor, rate_squared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """eta, p and beta, each (m, n), of density, temperature and gamma^2, each (n,)."""
        scales = self.scales
        state = torch.stack(((density - scales[0]) / scales[1], (temperature - scales[2]) / scales[3]))
        natural = (scales[7] * self.log_rate.exp()).square()  # (m, 1)
        bend = 0.5 * torch.log1p(rate_squared.unsqueeze(0) / natural)
        x = torch.cat((state.unsqueeze(0).expand(self.members, -1, -1), bend.unsqueeze(1)), 1).transpose(1, 2)
        a, t, s = x[:, :, 0], x[:, :, 1], x[:, :, 2]
        products = torch.stack((a, t, s, a * a, a * t, t * t, a * s, t * s, s * s), 2)
        hidden = x
        for layer in self.layers:
            hidden = torch.tanh(layer(hidden))
        y = self.last(hidden) + self.terms(products)
        viscosity = scales[6] * torch.exp(y[:, :, 0])
        pressure = scales[4] + scales[5] * y[:, :, 1]
        beta = self.least_dissipation * viscosity * torch.tanh(y[:, :, 2]) / (natural + 0.5 * rate_squared).sqrt()
        return viscosity, pressure, beta

    @classmethod
    def joined(cls, laws: Sequence[Self]) -> Self:
        """Return the ensemble of all members of laws of one shape; scales are those of the first."""
        first = laws[0]
        whole = cls(first.channels, first.hidden_layers, sum(law.members for law in laws))
        parameters = {
            name: torch.cat([dict(law.named_parameters())[name].detach() for law in laws])
            for name, _ in first.named_parameters()
        }
        whole.load_state_dict(parameters | {"scales": first.scales, "calibration": first.calibration})
        return whole.eval().requires_grad_(False)

    def chosen(self, members: Sequence[int]) -> Self:
        """Return a law of some of the members."""
        part = type(self)(self.channels, self.hidden_layers, len(members))
        parameters = {name: value.detach()[list(members)] for name, value in self.named_parameters()}
        part.load_state_dict(parameters | {"scales": self.scales, "calibration": self.calibration})
        return part.eval().requires_grad_(False)

    @classmethod
    def of_weights(cls, weights: dict[str, Tensor]) -> Self:
        """Return the law of a state dictionary, such as the `weights` of its artifact.

        Raises
        ------
        KeyError, RuntimeError    if they are not those of a viscous law
        """
        members, channels, _ = weights["last.weight"].shape
        depth = sum(name.startswith("layers.") and name.endswith(".weight") for name in weights)
        law = cls(channels, depth, members)
        law.load_state_dict(weights)
        return law.eval().requires_grad_(False)


def strain_rate(velocity_gradient: Tensor) -> Tensor:
    """D, shape (n, 6): symmetric part less its trace, of gradients (n, 9) row by row."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = velocity_gradient.unbind(1)
    mean = (xx + yy + zz) / 3
    off = (0.5 * (xy + yx), 0.5 * (xz + zx), 0.5 * (yz + zy))
    return torch.stack((xx - mean, off[0], off[1], yy - mean, off[2], zz - mean), 1)


def contraction(a: Tensor, b: Tensor) -> Tensor:
    """A_ij B_ij of symmetric tensors (..., 6)."""
    product = a * b
    sides = product[..., 1] + product[..., 2] + product[..., 4]
    return product[..., 0] + product[..., 3] + product[..., 5] + 2 * sides


def squared_deviator(strain: Tensor) -> Tensor:
    """(D^2)_dev, shape (n, 6), of D (n, 6)."""
    xx, xy, xz, yy, yz, zz = strain.unbind(1)
    diagonal = (xx * xx + xy * xy + xz * xz, xy * xy + yy * yy + yz * yz, xz * xz + yz * yz + zz * zz)
    off = (xx * xy + xy * yy + xz * yz, xx * xz + xy * yz + xz * zz, xy * xz + yy * yz + yz * zz)
    mean = (diagonal[0] + diagonal[1] + diagonal[2]) / 3
    return torch.stack((diagonal[0] - mean, off[0], off[1], diagonal[1] - mean, off[2], diagonal[2] - mean), 1)
