"""How good a fluid's law is: the viscosity of runs, beside classical laws fitted to the same runs, and its intervals.

Legend: gamma = rate of shear; eta = sigma : D / gamma^2, the viscosity; noise = standard error of a run.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.material import MaterialSamples
from hpcsurrogate.models.viscous_law import ViscousLaw, contraction, strain_rate

COVERAGES = {"50 %": 0.6745, "68 %": 0.9945, "95 %": 1.96}  # and how many standard deviations of a normal law they are
LEAST_PRESSURE_ERROR = 1e-6  # of the mean pressure: no run is taken for surer
CLASSICAL = ("carreau", "newtonian")  # names of the rivals, the strongest first
KNEES = 200  # values of gamma_s that Carreau's law is tried with


@dataclass(frozen=True)
class LawSamples:
    """Runs as the training takes them, float64, in the units of the runs.

    Attributes
    ----------
    density, temperature : Tensor, shape (n,)
    gradient : Tensor, shape (n, 9)
    stress, error : Tensor, shape (n, 6)
    state : Tensor, shape (n,), int64
    """

    density: Tensor
    temperature: Tensor
    gradient: Tensor
    stress: Tensor
    error: Tensor
    state: Tensor

    @classmethod
    def of(cls, samples: MaterialSamples, rows: np.ndarray) -> Self:
        """Take some rows of the samples."""
        names = ("density", "temperature", "velocity_gradient", "stress", "stress_error")
        columns = (torch.from_numpy(getattr(samples, name)[rows]).double() for name in names)
        return cls(*columns, torch.from_numpy(samples.state[rows]))

    def at(self, rows: Tensor) -> Self:
        """Return some of the runs."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def rate(self) -> Tensor:
        """gamma = sqrt(2 D : D), shape (n,): the rate of a simple shear."""
        strain = strain_rate(self.gradient)
        return (2 * contraction(strain, strain)).sqrt()

    def shear(self, stress: Tensor) -> Tensor:
        """sigma : D / gamma of stresses (..., n, 6): sigma_xy of a simple shear; zero at rest."""
        strain = strain_rate(self.gradient)
        return contraction(stress, strain) / self.rate.clamp_min(torch.finfo(torch.float64).tiny)

    @property
    def shear_error(self) -> Tensor:
        """Standard error of `shear(stress)`, shape (n,), those of the components taken as independent."""
        weights = strain_rate(self.gradient) / self.rate.clamp_min(torch.finfo(torch.float64).tiny)[:, None]
        twice = self.error.new_tensor((1.0, 2.0, 2.0, 1.0, 2.0, 1.0))
        return (weights * twice * self.error).square().sum(1).sqrt()

    @property
    def pressure(self) -> Tensor:
        """Minus the mean normal stress, shape (n,)."""
        return -self.stress[:, (0, 3, 5)].mean(1)

    @property
    def pressure_error(self) -> Tensor:
        """Standard error of it, shape (n,), likewise."""
        return self.error[:, (0, 3, 5)].square().sum(1).sqrt() / 3


# Density, temperature and gamma, (n,) each, to viscosity, (n,).
Viscosity = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LogPolynomial:
    """A classical law: log eta quadratic in the state and, if it is Carreau's, in s = log(1 + (gamma / knee)^2) / 2.

    Attributes
    ----------
    density, temperature : float    what both are counted in: a = rho / density - 1, t = T / temperature - 1
    constants : Tensor, shape (6,) or (10,), float64    of 1, a, t, a^2, a t, t^2, and s, a s, t s, s^2
    knee : float or None            gamma_s; None: Newton's, whatever the rate
    """

    density: float
    temperature: float
    constants: Tensor
    knee: float | None = None

    def __call__(self, density: Tensor, temperature: Tensor, rate: Tensor) -> Tensor:
        """Viscosity, shape (n,)."""
        return (self.terms(density, temperature, rate) @ self.constants).exp()

    def terms(self, density: Tensor, temperature: Tensor, rate: Tensor) -> Tensor:
        """What the constants are of, shape (n, 6) or (n, 10)."""
        columns = state_terms(density / self.density - 1, temperature / self.temperature - 1)
        if self.knee is not None:
            a, t = columns[1:3]
            s = 0.5 * torch.log1p((rate / self.knee).square())
            columns += [s, a * s, t * s, s * s]
        return torch.stack(columns, 1)


def state_terms(a: Tensor, t: Tensor) -> list[Tensor]:
    """1, a, t, a^2, a t, t^2."""
    return [torch.ones_like(a), a, t, a * a, a * t, t * t]


def viscosity_of(law: ViscousLaw) -> Viscosity:
    """Return the ensemble's mean viscosity."""

    def viscosity(density: Tensor, temperature: Tensor, rate: Tensor) -> Tensor:
        return law.coefficients(density, temperature, rate.square())[0].mean(0)

    return viscosity


def fit_newtonian(training: LawSamples) -> LogPolynomial:
    """Return Newton's law: log viscosity quadratic in density and temperature, whatever the rate."""
    return _fit_log_viscosity(training, None)[1]


def read_classical(scores: dict) -> dict[str, LogPolynomial]:
    """Return the classical laws of fit.json by their names.

    Raises
    ------
    DataError    if they are not there
    """
    try:
        return {
            name: LogPolynomial(**(scores[name] | {"constants": torch.tensor(scores[name]["constants"]).double()}))
            for name in CLASSICAL
        }
    except (KeyError, TypeError) as error:
        raise DataError(f"fit.json: holds no classical law ({error!r}); run `hpcsurrogate fit` again") from None


def fit_pressure(training: LawSamples) -> Tensor:
    """Return the constants, shape (6,), of a pressure quadratic in the state, which is counted as in Newton's law."""
    a, t = (part / part.mean() - 1 for part in (training.density, training.temperature))
    sure = 1 / training.pressure_error.clamp_min(LEAST_PRESSURE_ERROR * training.pressure.abs().mean())
    return _least_squares(torch.stack(state_terms(a, t), 1), training.pressure, sure)


def fit_carreau(training: LawSamples) -> LogPolynomial:
    """Return Carreau's law with all of its constants functions of the state; the strongest classical rival.

    log eta is quadratic in density, temperature and s = log(1 + (gamma / gamma_s)^2) / 2, so that viscosity at rest and
    exponent both depend on the state; gamma_s is the best of many (Carreau 1972, doi:10.1122/1.549276).
    """
    rates = training.rate[training.rate > 0]
    knees = torch.logspace(math.log10(0.1 * rates.min()), math.log10(10 * rates.max()), KNEES, dtype=torch.float64)
    return min((_fit_log_viscosity(training, float(knee)) for knee in knees), key=lambda found: found[0])[1]


def _fit_log_viscosity(training: LawSamples, knee: float | None) -> tuple[float, LogPolynomial]:
    """Weighted least squares in log eta, on runs whose viscosity is positive; the misfit and the law."""
    law = LogPolynomial(float(training.density.mean()), float(training.temperature.mean()), torch.empty(0), knee)
    shear = training.shear(training.stress)
    usable = (shear > 0) & (training.rate > 0)
    sure = (shear / training.shear_error)[usable]
    wanted = (shear[usable] / training.rate[usable]).log()
    matrix = law.terms(training.density, training.temperature, training.rate)[usable]
    constants = _least_squares(matrix, wanted, sure)
    return float(((matrix @ constants - wanted) * sure).square().sum()), replace(law, constants=constants)


def _least_squares(matrix: Tensor, wanted: Tensor, sure: Tensor) -> Tensor:
    return torch.linalg.lstsq(matrix * sure[:, None], (wanted * sure)[:, None], driver="gelsd").solution[:, 0]


def scores_of(law: ViscousLaw, rivals: dict[str, Viscosity], samples: LawSamples) -> dict:
    """Relative errors of the viscosity, root mean square and largest, and the coverage of the law's intervals."""
    measured = samples.shear(samples.stress) / samples.rate
    noise = samples.shear_error / samples.rate
    errors = {}
    with torch.no_grad():
        for name, viscosity in rivals.items():
            relative = (viscosity(samples.density, samples.temperature, samples.rate) - measured) / measured
            errors[name] = {"rms": float(relative.square().mean().sqrt()), "largest": float(relative.abs().max())}
        error, spread = errors_and_spread(law, samples)[1]
        spread = (law.calibration[1] * spread).square() + samples.shear_error.square()
    covered = {name: float((error.abs() < width * spread.sqrt()).double().mean()) for name, width in COVERAGES.items()}
    return {
        "runs": len(measured),
        "noise": float((noise / measured).square().mean().sqrt()),
        "errors": errors,
        "coverage": covered,
    }


def errors_and_spread(law: ViscousLaw, samples: LawSamples) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Error of the mean and standard deviation of the members, of the pressure and of the shear stress, (n,) each."""
    pressure, deviator = law.parts(samples.density, samples.temperature, samples.gradient)
    shear = samples.shear(deviator)
    return (
        (pressure.mean(0) - samples.pressure, pressure.std(0)),
        (shear.mean(0) - samples.shear(samples.stress), shear.std(0)),
    )


def viscosities_at_rest(law: ViscousLaw, samples: MaterialSamples) -> list[dict[str, float]]:
    """The law at a vanishing rate, with its standard deviation, for every density and temperature of the sweep."""
    columns = np.stack((samples.density, samples.temperature), 1)
    # A thermostat holds its temperature to some thousandths: runs that agree so far are of one state.
    _, group = np.unique(np.stack((columns[:, 0].round(6), columns[:, 1].round(2)), 1), axis=0, return_inverse=True)
    means = np.stack([columns[group.ravel() == number].mean(0) for number in range(group.max() + 1)])
    density, temperature = torch.from_numpy(means).unbind(1)
    with torch.no_grad():
        viscosity = law.coefficients(density, temperature, torch.zeros_like(density))[0]
    deviation = viscosity.std(0) * law.calibration[1]
    return [
        {"density": float(a), "temperature": float(t), "viscosity": float(v), "standard_deviation": float(d)}
        for a, t, v, d in zip(density, temperature, viscosity.mean(0), deviation, strict=True)
    ]
