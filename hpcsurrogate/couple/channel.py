"""A fluid's laws in a channel, beside a run of molecular dynamics that training never saw.

Two runs have the same walls. In one the walls move (Couette): the straight line that the velocity follows in the
middle reaches the speeds of the walls at two points, which are where a continuum's walls must stand. In the other a
force drives the fluid (Poiseuille): its velocity is what the laws must give, with its density and temperature, between
those walls. Within a few diameters of a wall the fluid lies in layers, and nothing is compared there.

Legend: y across the channel; n number density; u velocity along the walls. All in the units of the runs; one atom has
mass 1, so that n is the density too.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.errors import DivergedError
from hpcsurrogate.couple.channel_profile import NUM_BLOCKS, Profile, find_walls
from hpcsurrogate.embed.artifact import Artifact
from hpcsurrogate.evaluate.law import Viscosity
from hpcsurrogate.models.viscous_law import contraction, strain_rate
from hpcsurrogate.physics.channel import Channel, StressLaw

CENTRE = 0.2  # share of what is compared, the middle, over which the centre-line velocity is a mean
CONFIDENT = 1.96  # standard deviations
TIMINGS = 3


def viscous(viscosity: Viscosity) -> StressLaw:
    """Return sigma = 2 eta D of a classical law; its pressure drives nothing in a channel."""

    def law(density: Tensor, temperature: Tensor, gradient: Tensor) -> Tensor:
        strain = strain_rate(gradient)
        # The root of a square has no slope at rest.
        rate = (2 * contraction(strain, strain) + torch.finfo(torch.float64).tiny).sqrt()
        return 2 * viscosity(density, temperature, rate)[:, None] * strain

    return law


class LearnedLaw:
    """An artifact as a law, each component of its stress moved away from zero by some of its standard deviations.

    Without the guard, whose law jumps where the trained range ends; it is asked afterwards.
    """

    def __init__(self, artifact: Artifact, deviations: float = 0.0):
        self.artifact, self.deviations = artifact, deviations
        self.last: tuple[Tensor, ...] = ()  # what it was asked last

    def __call__(self, density: Tensor, temperature: Tensor, gradient: Tensor) -> Tensor:
        """Stress (n, 6)."""
        self.last = (density, temperature, gradient.detach())
        stress, error = self.artifact.split(self.artifact(density, temperature, gradient)).values()
        return stress + self.deviations * error * stress.sign()

    def outside(self) -> int:
        """How many faces of the last solution the guard would have given to the classical law."""
        return sum(self.artifact.guarded(*self.last)[1])


@dataclass(frozen=True)
class Comparison:
    """Both runs and what the laws make of the second.

    Attributes
    ----------
    channel : Channel        density and temperature are means over what is compared
    origin : float           y of its lower wall
    force : float            per volume
    density, temperature : Tensor, shape (cells + 1,)    at the faces of the channel's cells
    y, velocity, error : ndarray, shape (n,)    of the Poiseuille run where it is compared, with standard errors
    noise : float            standard error of the centre-line velocity over itself, that of the walls' places included
    """

    channel: Channel
    origin: float
    force: float
    density: Tensor
    temperature: Tensor
    y: np.ndarray
    velocity: np.ndarray
    error: np.ndarray
    noise: float

    @classmethod
    def of(
        cls, couette: Profile, poiseuille: Profile, speed: float, force: float, wall_layer: float, cells: int
    ) -> "Comparison":
        """Set the channel up: walls from the first run, density and temperature from the second.

        A fluid that its own flow heats is warmer near the walls, and at its one pressure thinner: both are parabolas
        around the middle, which a least-squares fit takes from what is compared, and carries on to the walls.
        """
        walls, wall_errors = find_walls(couette, speed, wall_layer)
        inner = poiseuille.inner(wall_layer)
        profiles = [values[:, inner].mean(0) for values in (poiseuille.density, poiseuille.temperature)]
        density, temperature = (float(values.mean()) for values in profiles)
        faces = [_parabola(poiseuille.y[inner], values, walls, cells + 1) for values in profiles]
        height = float(walls[1] - walls[0])
        velocity = poiseuille.velocity[:, inner]
        centre = velocity[:, centre_of(velocity.shape[1])].mean(1)
        of_run = centre.std(ddof=1) / np.sqrt(NUM_BLOCKS) / centre.mean()
        of_walls = 2 * float(np.hypot(*wall_errors)) / height  # the velocity goes as the height squared
        return cls(
            Channel((cells,), (height,), density, temperature),
            float(walls[0]),
            density * force,
            *faces,
            poiseuille.y[inner],
            velocity.mean(0),
            velocity.std(0, ddof=1) / np.sqrt(NUM_BLOCKS),
            float(np.hypot(of_run, of_walls)),
        )

    def solve(self, law: StressLaw) -> np.ndarray:
        """Return what a law makes of the velocity at `y`, shape (n,)."""
        found = self.channel.steady(self.at_faces(law), self.force)
        return np.interp(self.y, self.origin + self.channel.points[0].numpy(), found.numpy())

    def at_faces(self, law: StressLaw) -> StressLaw:
        """Return the law with the density and temperature of each face, whatever the channel says."""
        return lambda _, __, gradient: law(self.density, self.temperature, gradient)

    def score(self, velocity: np.ndarray) -> dict:
        """Differences from the run over its centre-line velocity."""
        centre = centre_of(len(self.y))
        difference = (velocity - self.velocity) / self.velocity[centre].mean()
        return {
            "velocity": velocity.tolist(),
            "centre": float(velocity[centre].mean()),
            "error": float(np.sqrt(np.mean(difference**2))),
            "largest_error": float(np.abs(difference).max()),
            "centre_error": float(difference[centre].mean()),
        }

    def scored(self, law: StressLaw) -> dict:
        """Return the scores of a law; only `failed`, the reason, of one that no steady flow balances the force with."""
        try:
            return self.score(self.solve(law))
        except DivergedError as error:
            return {"failed": str(error)}

    def seconds(self, law: StressLaw) -> float:
        """Wall-clock time of a solution, the median of some [s]."""
        local = self.at_faces(law)
        return statistics.median(_timed(lambda: self.channel.steady(local, self.force)) for _ in range(TIMINGS))


def _parabola(y: np.ndarray, values: np.ndarray, walls: np.ndarray, count: int) -> Tensor:
    """Values at so many points from wall to wall, of the parabola around the middle that fits those at y best."""
    fitted = np.polyfit((y - walls.mean()) ** 2, values, 1)
    return torch.as_tensor(np.polyval(fitted, (np.linspace(*walls, count) - walls.mean()) ** 2))


def centre_of(count: int) -> slice:
    """The middle of so many slices."""
    width = max(1, round(CENTRE * count))
    return slice((count - width) // 2, (count + width) // 2 + (count - width) % 2)


def compare(comparison: Comparison, artifact: Artifact, classical: dict[str, Viscosity], seconds_of_run: float) -> dict:
    """Solve the channel with every law.

    Parameters
    ----------
    comparison : Comparison
    artifact : Artifact         of the learned law
    classical : dict            name -> viscosity
    seconds_of_run : float      CPU time of the Poiseuille run

    Returns
    -------
    dict    content of couple.json

    Raises
    ------
    DivergedError    if the learned law does not carry the force; a classical one that does not cannot be the rival
    """
    learned = LearnedLaw(artifact)
    laws = {"learned": comparison.score(comparison.solve(learned))}
    laws["learned"]["faces_outside"] = learned.outside()
    laws["learned"]["centre_interval"] = interval = _interval(comparison, artifact)
    for name, viscosity in classical.items():
        laws[name] = comparison.scored(viscous(viscosity))
    channel, measured = comparison.channel, float(comparison.velocity[centre_of(len(comparison.y))].mean())
    seconds = comparison.seconds(LearnedLaw(artifact))
    return _judged(laws, comparison.noise) | {
        "channel": {
            "walls": [comparison.origin, comparison.origin + channel.lengths[0]],
            "density": channel.density,
            "temperature": channel.temperature,
            "density_at_walls": float(comparison.density[0]),
            "temperature_at_walls": float(comparison.temperature[0]),
            "force_per_volume": comparison.force,
        },
        "molecular_dynamics": {
            "y": comparison.y.tolist(),
            "velocity": comparison.velocity.tolist(),
            "standard_error": comparison.error.tolist(),
            "centre": measured,
            "relative_standard_error": comparison.noise,
            "inside_interval": interval[0] <= measured <= interval[1],
            "cpu_seconds": seconds_of_run,
        },
        "laws": laws,
        "solver_seconds": seconds,
        "cost_ratio": seconds_of_run / seconds,
    }


def _interval(comparison: Comparison, artifact: Artifact) -> list[float]:
    """The centre-line velocity of a fluid that is thicker, and thinner, by so many deviations at all rates at once."""
    centre = centre_of(len(comparison.y))
    laws = (LearnedLaw(artifact, deviations) for deviations in (CONFIDENT, -CONFIDENT))
    return [float(comparison.solve(law)[centre].mean()) for law in laws]


def _judged(laws: dict[str, dict], noise: float) -> dict:
    """Whether the learned law is closer to the run than the best classical one by more than the runs' own noise."""
    names = {"learned": "the learned law", "carreau": "Carreau's", "newtonian": "Newton's"}
    errors = ", ".join(
        f"no steady flow by {names.get(name, name)}"
        if "failed" in law
        else f"{100 * law['error']:.1f} % (largest {100 * law['largest_error']:.1f} %) by {names.get(name, name)}"
        for name, law in laws.items()
    )
    # Newton's law carries any force, so that there is a rival.
    rivals = [name for name, law in laws.items() if name != "learned" and "failed" not in law]
    best = min(rivals, key=lambda name: laws[name]["error"])
    gain = laws[best]["error"] - laws["learned"]["error"]
    rival = f"{names.get(best, best)}, the best classical one"
    outcome = (
        f"The learned law is better than {rival}."
        if gain > noise
        else f"The learned law loses to {rival}."
        if gain < -noise
        else f"The learned law and {rival}, cannot be told apart."
    )
    verdict = (
        f"In a channel that training never saw the velocity is off that of molecular dynamics by: {errors}; in units "
        f"of the centre-line velocity, of which the runs' own noise is {100 * noise:.1f} %. {outcome}"
    )
    return {"verdict": verdict, "helped": gain > noise, "best_classical": best}


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
