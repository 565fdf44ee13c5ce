"""Trains a fluid's law on the stresses of runs: an ensemble whose members differ in their first weights and in the runs
that count for them.

loss of a member = sum_i w_i sum_c ((sigma_ic - model_ic) / error_ic)^2 + sum_k ((theta_k - theta_k0) / s_k)^2

over runs i and all six components c; w_i, random with mean 1, is the Bayesian bootstrap of the runs (Rubin 1981,
doi:10.1214/aos/1176345338); the second sum holds each weight theta_k to where it started, s_k being how far such
weights lie apart at the start (anchored ensembles, Pearce et al. 2020, arXiv:1810.05546): where runs say nothing the
members stay as different as they began.

Many short runs and few long ones stand in one sum, each with its own error.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.config_fluid import LawTraining
from hpcsurrogate.core.errors import DataError, DivergedError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.data.material import MaterialSamples
from hpcsurrogate.models.viscous_law import PRIOR_LINEAR, MemberLinear, ViscousLaw, contraction, strain_rate
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train.schedule import learning_rate

log = get_logger("fit")

WARM_UP = 20  # steps
NUM_FOLDS = 5
PRIOR_LOG_RATE = 1.0
# Of the stress in shear: no run is taken for surer than this, so that a sample without noise does not outweigh all.
LEAST_ERROR = 1e-3


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


def scales_of(samples: LawSamples) -> Tensor:
    """Return `ViscousLaw.scales` of training samples, shape (8,).

    Raises
    ------
    DataError    if no run is sheared, or none resists
    """
    sheared = samples.rate > 0
    if not sheared.any():
        raise DataError("no run is sheared: a viscosity needs runs with a velocity gradient; add some to `simulate`")
    moving = samples.at(sheared)
    weights = (moving.rate / moving.shear_error.clamp_min(_least(moving))).square()
    viscosity = float((weights * moving.shear(moving.stress) / moving.rate).sum() / weights.sum())
    if not viscosity > 0:
        raise DataError("the mean viscosity of the runs is not positive: see the signs in `ingest`, or run longer")
    middle = float(moving.rate.log().mean().exp())
    pressure = samples.pressure
    spread = max(_spread(pressure), viscosity * middle)
    values = [
        float(samples.density.mean()), _spread(samples.density) or float(samples.density.mean()),
        float(samples.temperature.mean()), _spread(samples.temperature) or float(samples.temperature.mean()),
        float(pressure.mean()), spread, viscosity, middle,
    ]  # fmt: skip
    return torch.tensor(values, dtype=torch.float64)


def fit_ensemble(
    settings: LawTraining, samples: LawSamples, seed: int, world: World
) -> tuple[list[ViscousLaw], list[Tensor]]:
    """Train the ensemble, and once more without each fold of the states, which is what calibrates its spread.

    Parameters
    ----------
    settings : LawTraining
    samples : LawSamples      of training; no held-out run
    seed : int
    world : World             its ranks share the members; all must call this

    Returns
    -------
    list of ViscousLaw    each member with its copies: number 0 has seen all runs, number k > 0 all but those of fold k
    list of Tensor        rows of the samples in folds 1, 2, ...

    Raises
    ------
    DataError        if there are fewer than two states, or no run is sheared
    DivergedError    if a loss is not finite

    Notes
    -----
    The same bits for any number of ranks (tests/parallel/test_law_ranks.py).
    """
    folds = folds_of(samples, seed)
    scales = scales_of(samples)
    with world.failing_together():
        own = []
        for number in world.share(range(settings.members)):
            own.append((number, fit_member(settings, samples, folds, scales, [seed, number]).state_dict()))
            log.info("member %d of %d trained", number + 1, settings.members)
    parts = sorted((part for of_rank in world.allgather(own) for part in of_rank), key=lambda part: part[0])
    return [ViscousLaw.of_weights(weights) for _, weights in parts], folds


def folds_of(samples: LawSamples, seed: int) -> list[Tensor]:
    """Split the states at random into folds and return the rows of each: runs of one state stay together."""
    states = samples.state.unique()
    if len(states) < 2:
        raise DataError(f"{len(states)} state is too little for a law; add values to simulate.grid")
    order = states[torch.randperm(len(states), generator=torch.Generator().manual_seed(seed))]
    return [torch.isin(samples.state, part).nonzero()[:, 0] for part in order.chunk(min(NUM_FOLDS, len(states)))]


def fit_member(
    settings: LawTraining,
    samples: LawSamples,
    folds: list[Tensor],
    scales: Tensor,
    seeds: list[int],
) -> ViscousLaw:
    """Train one member and its copies that do not see a fold; they start alike and run side by side."""
    copies = len(folds) + 1
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
    law = _first_law(settings, copies, scales, generator)
    weights = torch.empty(len(samples.density), dtype=torch.float64).exponential_(generator=generator)
    weights = (weights / weights.mean()).repeat(copies, 1)
    for number, rows in enumerate(folds, 1):
        weights[number, rows] = 0
    anchor = {name: value.detach().clone() for name, value in law.named_parameters()}
    spreads = _prior_spreads(law)
    tolerance = (samples.error.square() + _least(samples).square()).sqrt()
    optimizer = torch.optim.Adam(law.parameters())
    count = len(samples.density)
    for step in range(settings.epochs):
        optimizer.param_groups[0]["lr"] = learning_rate(step, settings.epochs, settings.learning_rate, WARM_UP)
        misfit = ((_stresses(law, samples) - samples.stress) / tolerance).square().sum(2)
        prior = [((value - anchor[name]) / spreads[name]).square().sum() for name, value in law.named_parameters()]
        loss = ((weights * misfit).sum() + torch.stack(prior).sum()) / count
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if not torch.isfinite(loss):
        raise DivergedError("fit: the loss is not finite; lower train.learning_rate")
    return law


def _stresses(law: ViscousLaw, samples: LawSamples) -> Tensor:
    pressure, deviator = law.parts(samples.density, samples.temperature, samples.gradient)
    return deviator - pressure.unsqueeze(2) * law.on_diagonal


def _first_law(settings: LawTraining, copies: int, scales: Tensor, generator: torch.Generator) -> ViscousLaw:
    model = settings.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        first = ViscousLaw(model.channels, model.hidden_layers)
    law = ViscousLaw(model.channels, model.hidden_layers, copies)
    parameters = {name: value.detach().expand(copies, *value.shape[1:]) for name, value in first.named_parameters()}
    law.load_state_dict(parameters | {"scales": scales, "calibration": torch.ones(2)})
    return law.train()


def _prior_spreads(law: ViscousLaw) -> dict[str, float]:
    spreads = {"log_rate": PRIOR_LOG_RATE}
    for name, layer in law.named_modules():
        if isinstance(layer, MemberLinear):
            spreads[name + ".weight"] = layer.spread or PRIOR_LINEAR
            spreads[name + ".bias"] = layer.bias_spread or PRIOR_LINEAR
    return spreads


def _least(samples: LawSamples) -> Tensor:
    return LEAST_ERROR * samples.shear(samples.stress).square().mean().sqrt()


def _spread(values: Tensor) -> float:
    return float(values.std(unbiased=False))
