"""Trains a fluid's law on the stresses of runs: an ensemble whose members differ in their first weights and in the runs
that count for them.

loss of a member = sum_i w_i sum_c ((sigma_ic - model_ic) / error_ic)^2 + sum_k ((theta_k - theta_k0) / s_k)^2

over runs i and all six components c; w_i, random with mean 1, is the Bayesian bootstrap of the runs (Rubin 1981,
doi:10.1214/aos/1176345338); the second sum holds each weight theta_k to where it started, s_k being how far such
weights lie apart at the start (anchored ensembles, Pearce et al. 2020, arXiv:1810.05546): where runs say nothing the
members stay as different as they began.

Many short runs and few long ones stand in one sum, each with its own error.
"""

import math

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.config_fluid import LawTraining
from hpcsurrogate.core.errors import DataError, DivergedError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.evaluate.law import LawSamples, errors_and_spread
from hpcsurrogate.models.viscous_law import PRIOR_LINEAR, MemberLinear, ViscousLaw
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train.law_transfer import scales_for
from hpcsurrogate.train.schedule import learning_rate

log = get_logger("fit")

WARM_UP = 20  # steps
NUM_FOLDS = 5
PRIOR_LOG_RATE = 1.0
# Of the stress in shear: no run is taken for surer than this, so that a sample without noise does not outweigh all.
LEAST_ERROR = 1e-3
LARGEST_FACTOR = 100.0  # on the spread of the members


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
    settings: LawTraining, samples: LawSamples, seed: int, world: World, other: ViscousLaw | None = None
) -> tuple[list[ViscousLaw], list[Tensor]]:
    """Train the ensemble, and once more without each fold of the states, which is what calibrates its spread.

    Parameters
    ----------
    settings : LawTraining
    samples : LawSamples      of training; no held-out run
    seed : int
    world : World             its ranks share the members; all must call this
    other : ViscousLaw        of another fluid: members start from its members in turn, and are anchored to them

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
    with world.failing_together():
        scales = scales_of(samples) if other is None else scales_for(other, samples)

    def weights_of(number: int) -> dict[str, Tensor]:
        first = None if other is None else other.chosen([number % other.members])
        weights = fit_member(settings, samples, folds, scales, [seed, number], first).state_dict()
        log.info("member %d of %d trained", number + 1, settings.members)
        return weights

    return [ViscousLaw.of_weights(weights) for weights in world.map(weights_of, range(settings.members))], folds


def calibration(members: list[ViscousLaw], folds: list[Tensor], training: LawSamples) -> Tensor:
    """Return the factors on the spread of pressure and of shear stress, shape (2,), that unseen states ask for.

    With the factor c, the squared errors of the ensembles that did not see a state are on average those of a normal law
    of variance c^2 spread^2 + noise^2.
    """
    parts: tuple[list, list] = ([], [])
    noises: tuple[list, list] = ([], [])
    with torch.no_grad():
        for number, rows in enumerate(folds, 1):
            law, unseen = ViscousLaw.joined([member.chosen([number]) for member in members]), training.at(rows)
            for part, found in zip(parts, errors_and_spread(law, unseen), strict=True):
                part.append(torch.stack(found))
            noises[0].append(unseen.pressure_error)
            noises[1].append(unseen.shear_error)
    return torch.stack(
        [_factor(*torch.cat(part, 1), torch.cat(noise)) for part, noise in zip(parts, noises, strict=True)]
    )


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
    first: ViscousLaw | None = None,
) -> ViscousLaw:
    """Train one member and its copies that do not see a fold; they start alike, as `first`, and run side by side."""
    copies = len(folds) + 1
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
    law = _copies_of(_drawn(settings, generator) if first is None else first, copies, scales)
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


def _drawn(settings: LawTraining, generator: torch.Generator) -> ViscousLaw:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        return ViscousLaw(settings.model.channels, settings.model.hidden_layers)


def _copies_of(first: ViscousLaw, copies: int, scales: Tensor) -> ViscousLaw:
    law = ViscousLaw(first.channels, first.hidden_layers, copies)
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


def _factor(error: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
    low, high = 1 / LARGEST_FACTOR, LARGEST_FACTOR
    for _ in range(60):
        middle = math.sqrt(low * high)
        too_sure = (error.square() / ((middle * spread).square() + noise.square())).mean() > 1
        low, high = (middle, high) if too_sure else (low, middle)
    return torch.tensor(high, dtype=torch.float64)
