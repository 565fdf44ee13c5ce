"""From a fine velocity field to what a coarse host sees: filtered velocity, exact SGS stress, the host's commutator.

Legend: G filter transfer function, P projection; a fine field is a trigonometric polynomial, so its filtered value at
any coarse point is a finite sum: two small dense matrices (one an axis) hold transfer function and evaluation together.
Grids need not divide each other. A collocated host holds trigonometric polynomials, so for it every field is cut off at
the Nyquist frequency of its grid; finer waves of a gaussian or box filter would otherwise come back as long ones.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hpcsurrogate.core.config import Filter, Flow
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import AnyHost
from hpcsurrogate.physics.spectral import SpectralSolver

# Offset, in coarse cells, of the points of each layout.
LOCATIONS = {
    "collocated": {"u": (0, 0), "v": (0, 0), "centre": (0, 0), "corner": (0, 0)},
    "staggered": {"u": (1, 0.5), "v": (0.5, 1), "centre": (0.5, 0.5), "corner": (1, 1)},
}


def _box(k: Tensor, width: float) -> Tensor:
    return torch.sinc(k * width / (2 * math.pi))


def _gaussian(k: Tensor, width: float) -> Tensor:
    return torch.exp(-((k * width) ** 2) / 24)


def _sharp(k: Tensor, width: float) -> Tensor:
    return (k.abs() < math.pi / width * (1 - 1e-12)).to(k.dtype)


def _none(k: Tensor, width: float) -> Tensor:
    return torch.ones_like(k)


TRANSFER = {"box": _box, "gaussian": _gaussian, "sharp": _sharp}


def filter_widths(config: Filter, spacing: tuple[float, float]) -> tuple[float, float]:
    """Filter width along x and y [m].

    Raises
    ------
    ConfigError    if a face average is asked to be wider or narrower than the face
    """
    if config.width is not None:
        widths = (config.width, config.width)
    else:
        factor = 1.0 if config.width_over_spacing is None else config.width_over_spacing
        widths = (factor * spacing[0], factor * spacing[1])
    if config.kind == "face_average" and any(abs(w / h - 1) > 1e-9 for w, h in zip(widths, spacing, strict=True)):
        raise ConfigError("prepare.filter: a face_average is as wide as the coarse cell; leave width out")
    return widths


class CoarseGraining:
    """Filter, exact stress and commutator of one fine grid and one host.

    Parameters
    ----------
    flow : core.config.Flow
    fine_grid : Grid           its dtype is that of the calculation (float64 for targets)
    host : a host of physics.hosts, of the same dtype
    filter_config : core.config.Filter

    Raises
    ------
    ConfigError    if a face average is asked of a collocated host, or the host is finer than the data

    Notes
    -----
    Filters commute with derivatives; a face-averaged solenoidal field has no discrete second-order divergence
    (tests/physics/test_coarse_graining.py).
    """

    def __init__(self, flow: Flow, fine_grid: Grid, host: AnyHost, filter_config: Filter):
        if filter_config.kind == "face_average" and host.layout != "staggered":
            raise ConfigError(
                "prepare.filter.kind: face_average needs a staggered host (finite_volume); "
                "take sharp, gaussian or box for a spectral one"
            )
        if any(n > fine for n, fine in zip(host.grid.shape, fine_grid.shape, strict=True)):
            raise ConfigError(f"host.grid: {host.grid.shape} is finer than the data's {fine_grid.shape}")
        self.host, self.fine_grid, self.kind = host, fine_grid, filter_config.kind
        self.widths = filter_widths(filter_config, host.grid.spacing)
        self.fine_solver = SpectralSolver(fine_grid, flow)
        complex_dtype = self.fine_solver.complex_dtype
        offsets = LOCATIONS[host.layout]
        self._sample = {
            name: self._sampling_matrices(offsets[name], self._axis_transfers(name), complex_dtype)
            for name in ("u", "v")
        }
        # The stress is filtered as a field on the fine grid and only sampled here.
        self._stress_sample = {
            name: self._sampling_matrices(offsets[name], (_none, _none), complex_dtype)
            for name in ("u", "v", "centre", "corner")
        }

    def _axis_transfers(self, name: str) -> tuple[Callable, Callable]:
        """Transfer function along x and along y for one velocity component."""
        if self.kind != "face_average":
            return TRANSFER[self.kind], TRANSFER[self.kind]
        return (_none, _box) if name == "u" else (_box, _none)

    def _sampling_matrices(
        self, offset: tuple[float, float], transfers: tuple[Callable, Callable], dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Matrices (nx, Nx) and (Ny // 2 + 1, ny) that turn fine coefficients into filtered values at coarse points."""
        fine, coarse = self.fine_grid, self.host.grid
        kx, ky = (grid_k.to(torch.float64) for grid_k in (fine.kx[:, 0], fine.ky[0]))
        x, y = (points.to(torch.float64).flatten() for points in coarse.to(torch.float64).coordinates(offset))
        along_x = torch.exp(1j * x[:, None] * kx[None, :]) * transfers[0](kx, self.widths[0]) / fine.shape[0]
        twice = torch.full_like(ky, 2.0)
        twice[0] = 1.0
        along_y = torch.exp(1j * ky[:, None] * y[None, :]) * (twice * transfers[1](ky, self.widths[1]))[:, None]
        # Only modes below the fine grid's Nyquist frequency carry a phase.
        along_x[:, fine.shape[0] // 2] = 0
        along_y[-1] = 0
        if self.host.layout == "collocated":
            along_x = along_x * _sharp(kx, coarse.spacing[0])
            along_y = along_y * _sharp(ky, coarse.spacing[1])[:, None]
        return along_x.to(dtype), (along_y / fine.shape[1]).to(dtype)

    def _apply(self, matrices: tuple[Tensor, Tensor], field_hat: Tensor) -> Tensor:
        along_x, along_y = matrices
        columns = field_hat.shape[-1]
        # Re(A B) without the imaginary half of the second product.
        partial = along_x @ field_hat
        return partial.real @ along_y[:columns].real - partial.imag @ along_y[:columns].imag

    def _filter_vector_hat(self, vector_hat: Tensor) -> Tensor:
        u_hat, v_hat = vector_hat.unbind(-3)
        return torch.stack((self._apply(self._sample["u"], u_hat), self._apply(self._sample["v"], v_hat)), dim=-3)

    def filter_vector(self, vector: Tensor) -> Tensor:
        """Filter a fine collocated vector field onto the host's velocity points, without projection."""
        return self._filter_vector_hat(torch.fft.rfft2(vector.to(self.fine_grid.dtype)))

    def velocity(self, fine_velocity: Tensor) -> Tensor:
        """Filtered velocity that the host would start from.

        Parameters
        ----------
        fine_velocity : Tensor, shape (b, 2, Nx, Ny), collocated [m/s]

        Returns
        -------
        Tensor, shape (b, 2, nx, ny), on the host's points, free of the host's discrete divergence [m/s]
        """
        return self.host.project(self.filter_vector(fine_velocity))

    def fine_tendency_hat(self, fine_velocity: Tensor) -> Tensor:
        """Coefficients (..., 2, Nx, columns) of the fine solver's acceleration, pressure included."""
        solver = self.fine_solver
        omega_hat = solver.vorticity_hat_from_velocity(fine_velocity.to(self.fine_grid.dtype))
        return solver.velocity_hat(solver.rhs(omega_hat))

    def commutator(self, fine_velocity: Tensor) -> Tensor:
        """P filter(rhs_fine(u)) - rhs_host(P filter(u)): what a perfect closure returns on the host's points [m/s^2].

        Feeding it back makes the host reproduce filtered DNS to round-off (tests/physics/test_commutator.py).
        """
        exact = self.host.project(self._filter_vector_hat(self.fine_tendency_hat(fine_velocity)))
        return exact - self.host.tendency(self.velocity(fine_velocity))

    # --- SGS stress ------------------------------------------------------------------------------------------------

    def sgs_stress(self, fine_velocity: Tensor) -> Tensor:
        """tau = filter(u u) - filter(u) filter(u), shape (b, 3, nx, ny): xx, xy, yy [m^2/s^2].

        xx and yy lie at the centres, xy at the corners of a staggered layout. Products are formed on a grid 3/2
        times finer, so that none of their modes is aliased. With a face average the stress is that of the cell (box)
        average.
        """
        return self._sample_stress(self._stress_hat(fine_velocity))

    def sgs_force(self, fine_velocity: Tensor) -> Tensor:
        """-div(tau) by exact differentiation, on the host's velocity points, shape (b, 2, nx, ny) [m/s^2]."""
        return self._sample_force(self._stress_hat(fine_velocity))

    def fields(self, fine_velocity: Tensor) -> dict[str, Tensor]:
        """velocity, commutator, sgs_force and sgs_stress together, the stress calculated once."""
        stress_hat = self._stress_hat(fine_velocity)
        return {
            "velocity": self.velocity(fine_velocity),
            "commutator": self.commutator(fine_velocity),
            "sgs_force": self._sample_force(stress_hat),
            "sgs_stress": self._sample_stress(stress_hat),
        }

    def _sample_stress(self, stress_hat: Tensor) -> Tensor:
        places = ("centre", "corner", "centre")
        sampled = [self._apply(self._stress_sample[place], stress_hat[..., i, :, :]) for i, place in enumerate(places)]
        return torch.stack(sampled, dim=-3)

    def _sample_force(self, stress_hat: Tensor) -> Tensor:
        xx, xy, yy = stress_hat.unbind(-3)
        kx, ky = 1j * self.fine_grid.kx, 1j * self.fine_grid.ky
        force_x = self._apply(self._stress_sample["u"], -(kx * xx + ky * xy))
        force_y = self._apply(self._stress_sample["v"], -(kx * xy + ky * yy))
        return torch.stack((force_x, force_y), dim=-3)

    def _stress_hat(self, fine_velocity: Tensor) -> Tensor:
        """Coefficients of xx, xy, yy on the fine grid."""
        velocity_hat = torch.fft.rfft2(fine_velocity.to(self.fine_grid.dtype)) * self.fine_grid.resolved
        kind = "box" if self.kind == "face_average" else self.kind
        transfer = TRANSFER[kind](self.fine_grid.kx, self.widths[0]) * TRANSFER[kind](self.fine_grid.ky, self.widths[1])
        return transfer * self._products_hat(velocity_hat) - self._products_hat(transfer * velocity_hat)

    def _products_hat(self, velocity_hat: Tensor) -> Tensor:
        """Coefficients of uu, uv, vv without aliasing, truncated to the fine grid."""
        nx, ny = self.fine_grid.shape
        wide = (3 * nx // 2, 3 * ny // 2)
        half = nx // 2
        padded = velocity_hat.new_zeros(*velocity_hat.shape[:-2], wide[0], ny // 2 + 1)
        padded[..., :half, :] = velocity_hat[..., :half, :]
        padded[..., -half + 1 :, :] = velocity_hat[..., -half + 1 :, :]
        scale = wide[0] * wide[1] / (nx * ny)
        u, v = torch.fft.irfft2(padded * scale, s=wide).unbind(-3)
        wide_hat = torch.fft.rfft2(torch.stack((u * u, u * v, v * v), dim=-3)) / scale
        products_hat = velocity_hat.new_zeros(*velocity_hat.shape[:-3], 3, nx, ny // 2 + 1)
        products_hat[..., :half, :] = wide_hat[..., :half, : ny // 2 + 1]
        products_hat[..., -half + 1 :, :] = wide_hat[..., -half + 1 :, : ny // 2 + 1]
        return products_hat * self.fine_grid.resolved
