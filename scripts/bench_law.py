"""Whether the runs that an ensemble proposes, and the law of another fluid, are worth their while.

The truth is a formula: a fluid that thins with the rate of shear, and runs that measure its stress with a Gaussian
error. Three choices of runs begin with the same few states: proposed by the ensemble round by round, evenly spread
(Sobol), and at random. What counts is the error of the viscosity over the whole box, root mean square, against the
formula. Then few runs of other fluids are learned with and without a law of the first.

    python scripts/bench_law.py --json law.json
"""

import argparse
import dataclasses
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from bench_loader import figure, report
from torch import Tensor

from hpcsurrogate.core.config_fluid import LawTraining, ViscousLawModel
from hpcsurrogate.evaluate.law import LawSamples
from hpcsurrogate.evaluate.propose import choose_runs
from hpcsurrogate.models.viscous_law import ViscousLaw
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train.law import calibration, fit_ensemble

LOW, HIGH = (0.78, 0.70, 0.05), (0.86, 1.00, 1.0)  # density, temperature, rate
NOISE = 0.02  # of the stress; at rate 0.05 a seventh of it
NUM_CANDIDATES = 512


@dataclasses.dataclass(frozen=True)
class Fluid:
    """Viscosity eta_0 exp(a (rho - 0.84) - b (T - 0.7)) (1 + (rate / knee)^2)^-thinning."""

    eta_0: float = 3.2
    a: float = 6.0
    b: float = 0.5
    knee: float = 0.4
    thinning: float = 0.2

    def viscosity(self, states: Tensor) -> Tensor:
        density, temperature, rate = states.unbind(1)
        at_rest = self.eta_0 * torch.exp(self.a * (density - 0.84) - self.b * (temperature - 0.7))
        return at_rest * (1 + (rate / self.knee).square()) ** -self.thinning

    def runs(self, states: Tensor, generator: torch.Generator) -> LawSamples:
        """Runs at states (n, 3) of density, temperature and rate, with their error in all components."""
        density, temperature, rate = states.unbind(1)
        gradient, stress = states.new_zeros(len(states), 9), states.new_zeros(len(states), 6)
        gradient[:, 1], stress[:, 1] = rate, self.viscosity(states) * rate
        stress[:, (0, 3, 5)] = -(10 * density.square() + temperature + 0.5 * rate.square())[:, None]
        stress += NOISE * torch.randn(stress.shape, dtype=stress.dtype, generator=generator)
        numbers = torch.arange(len(states))
        return LawSamples(density, temperature, gradient, stress, torch.full_like(stress, NOISE), numbers)


FIRST = Fluid()
OTHERS = {"twice as viscous": Fluid(6.4), "thins earlier, steeper in density": Fluid(2.5, 8.0, 0.7, 0.2, 0.25)}


def spread_states(count: int, seed: int) -> Tensor:
    """States that fill the box evenly, (count, 3), rates in their logarithm."""
    shares = torch.quasirandom.SobolEngine(3, scramble=True, seed=seed).draw(count, dtype=torch.float64)
    return in_box(shares)


def in_box(shares: Tensor) -> Tensor:
    low, high = torch.tensor(LOW, dtype=torch.float64), torch.tensor(HIGH, dtype=torch.float64)
    states = low + (high - low) * shares
    states[:, 2] = low[2] * (high[2] / low[2]) ** shares[:, 2]
    return states


def fitted(settings: LawTraining, samples: LawSamples, seed: int) -> ViscousLaw:
    members, folds = fit_ensemble(settings, samples, seed, World())
    law = ViscousLaw.joined([member.chosen([0]) for member in members])
    law.calibration = calibration(members, folds, samples)
    return law


def viscosities(law: ViscousLaw, states: Tensor) -> Tensor:
    with torch.no_grad():
        return law.coefficients(states[:, 0], states[:, 1], states[:, 2].square())[0]


def error(law: ViscousLaw, fluid: Fluid) -> float:
    """Relative error of the viscosity over the box, root mean square."""
    states = spread_states(NUM_CANDIDATES, 999)
    return float((viscosities(law, states).mean(0) / fluid.viscosity(states) - 1).square().mean().sqrt())


def compare_choices(settings: LawTraining, options: argparse.Namespace, seed: int) -> dict[str, list[float]]:
    """Errors of the laws of runs that were proposed, after each round, evenly spread and random, after the last."""
    generator = torch.Generator().manual_seed(seed)
    states, candidates = spread_states(options.start, seed), spread_states(NUM_CANDIDATES, seed + 1000)
    more = options.rounds * options.runs
    random = in_box(torch.rand(more, 3, dtype=torch.float64, generator=generator))
    found: dict[str, list[float]] = {"proposed": []}
    rivals = {"evenly spread": spread_states(options.start + more, seed), "random": torch.cat((states, random))}
    for name, chosen in rivals.items():
        found[name] = [error(fitted(settings, FIRST.runs(chosen, generator), seed), FIRST)]
    samples = FIRST.runs(states, generator)
    for number in range(options.rounds + 1):
        law = fitted(settings, samples, seed)
        found["proposed"].append(error(law, FIRST))
        if number < options.rounds:
            members = viscosities(law, candidates)
            noise = NOISE / (members.mean(0) * candidates[:, 2])
            chosen, _ = choose_runs(members.log(), float(law.calibration[1]), noise, options.runs)
            samples = joined(samples, FIRST.runs(candidates[chosen], generator))
    return found


def joined(one: LawSamples, other: LawSamples) -> LawSamples:
    names = [field.name for field in dataclasses.fields(one)]
    both = {name: torch.cat((getattr(one, name), getattr(other, name))) for name in names}
    return LawSamples(**both | {"state": torch.arange(len(both["state"]))})


def compare_starts(settings: LawTraining, options: argparse.Namespace, seed: int) -> dict[str, list[float]]:
    """Errors of the laws of few runs of other fluids: drawn at first, and started from the law of the first fluid."""
    generator = torch.Generator().manual_seed(seed)
    first = fitted(settings, FIRST.runs(spread_states(48, seed), generator), seed)
    found = {}
    for name, fluid in OTHERS.items():
        few = fluid.runs(spread_states(options.few, seed + 1), generator)
        for start, other in (("drawn", None), ("started from another fluid", first)):
            members, _ = fit_ensemble(settings, few, seed, World(), other)
            law = ViscousLaw.joined([member.chosen([0]) for member in members])
            found[f"{name}, {options.few} runs, {start}"] = [error(law, fluid)]
    return found


def run_bench(options: argparse.Namespace) -> int:
    """Print the errors of all seeds, and what is gained."""
    torch.set_num_threads(1)
    settings = LawTraining(
        model=ViscousLawModel(kind="viscous_law", channels=16), members=options.members, epochs=options.epochs
    )
    found: list[dict[str, list[float]]] = []
    for seed in range(options.seeds):
        found.append(compare_choices(settings, options, seed) | compare_starts(settings, options, seed))
        for name, errors in found[-1].items():
            print(f"seed {seed}  {name:<66} " + " ".join(f"{100 * value:6.2f} %" for value in errors), flush=True)
    typical = {name: statistics.median(one[name][-1] for one in found) for name in found[0]}
    figures = [figure(f"error of the viscosity, {name}", value) for name, value in typical.items()]
    for rival in ("evenly spread", "random"):
        figures.append(figure(f"error, proposed / {rival}", typical["proposed"] / typical[rival], at_most=1.0))
    for name in OTHERS:
        drawn, started = (
            typical[f"{name}, {options.few} runs, {start}"] for start in ("drawn", "started from another fluid")
        )
        figures.append(figure(f"error, {name}: started from another fluid / drawn", started / drawn, at_most=1.0))
    return report(figures, options.json)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Proposed runs beside others, and laws that start from other fluids.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--quick", action="store_true", help="one seed, short trainings")
    parser.add_argument("--seeds", type=int, help="starts of which the median counts (1 with --quick, otherwise 3)")
    parser.add_argument("--start", type=int, default=8, help="runs before the first round")
    parser.add_argument("--runs", type=int, default=4, help="runs of a round")
    parser.add_argument("--few", type=int, default=6, help="runs of the other fluids")
    options = parser.parse_args(arguments)
    options.seeds = options.seeds or (1 if options.quick else 3)
    options.rounds, options.members, options.epochs = (2, 5, 400) if options.quick else (3, 10, 500)
    return options


if __name__ == "__main__":
    sys.exit(run_bench(parse()))
