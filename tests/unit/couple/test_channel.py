"""Laws in a channel beside runs whose truth is known: files as LAMMPS writes them, made by formula."""

import math

import numpy as np
import pytest
import torch

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.couple.channel import Comparison, compare, viscous
from hpcsurrogate.couple.channel_profile import NUM_BLOCKS, Profile, find_walls, read_profile
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.evaluate.law import LogPolynomial
from hpcsurrogate.export.law import write_law
from hpcsurrogate.physics.channel import Channel
from tests.law_artifact import describe, make_cells, make_law

DENSITY, TEMPERATURE, FORCE, SPEED = 0.8, 0.9, 0.05, 1.0
WALLS = (2.3, 17.8)
LAYER = 2.0


def write_profile(path, velocity, noise=0.0, frames=4 * NUM_BLOCKS, seed=0):
    """Slices of 0.5 from 0 to 20, fluid from 2 to 18; layers of double density at the walls."""
    random, y = np.random.default_rng(seed), np.arange(0.25, 20, 0.5)
    fluid = (y > 2) & (y < 18)
    density = np.where(fluid, DENSITY * np.where((y < 2.5) | (y > 17.5), 2, 1), 0)
    lines = ["# Chunk-averaged data", "# Timestep Number-of-chunks Total-count"]
    lines.append("# Chunk Coord1 Ncount density/number vx v_heat")
    for frame in range(1, frames + 1):
        lines.append(f"{5000 * frame} {len(y)} 1000")
        found = np.where(fluid, velocity(y) + noise * random.standard_normal(len(y)), 0)
        for number, row in enumerate(zip(y, 50 * density, density, found, fluid * TEMPERATURE, strict=True), 1):
            lines.append("  " + " ".join(f"{value:.10g}" for value in (number, *row)))
    path.write_text("\n".join(lines) + "\n")
    return read_profile(path)


def line_between_walls(y):
    return SPEED * (2 * (y - WALLS[0]) / (WALLS[1] - WALLS[0]) - 1)


def flow_of(law):
    channel = Channel((200,), (WALLS[1] - WALLS[0],), DENSITY, TEMPERATURE)
    found = channel.steady(law, DENSITY * FORCE).numpy()
    return lambda y: np.interp(y, WALLS[0] + channel.points[0].numpy(), found, 0, 0)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    path = tmp_path_factory.mktemp("law") / "law.pt"
    write_law(path, make_law(), describe(), make_cells())
    return load_artifact(path)


def constant_viscosity(value):
    return LogPolynomial(1.0, 1.0, torch.tensor([math.log(value), 0, 0, 0, 0, 0]).double())


RIVALS = {"carreau": constant_viscosity(4.0), "newtonian": constant_viscosity(9.0)}


def compared(folder, truth, noise=0.0):
    couette = write_profile(folder / "couette.txt", line_between_walls, noise, seed=1)
    poiseuille = write_profile(folder / "poiseuille.txt", flow_of(truth), noise, seed=2)
    return Comparison.of(couette, poiseuille, SPEED, FORCE, LAYER, 100)


def test_walls_stand_where_the_middle_of_the_fluid_says(tmp_path):
    couette = write_profile(tmp_path / "couette.txt", line_between_walls)
    walls, errors = find_walls(couette, SPEED, LAYER)
    assert walls == pytest.approx(WALLS) and errors == pytest.approx([0, 0], abs=1e-8)
    inner = couette.y[couette.inner(LAYER)]
    assert inner[0] == 4.25 and inner[-1] == 15.75
    noisy = write_profile(tmp_path / "couette.txt", line_between_walls, noise=0.1, seed=3)
    walls, errors = find_walls(noisy, SPEED, LAYER)
    assert (errors > 0.01).all() and (np.abs(walls - WALLS) < 4 * errors).all()


def test_the_law_that_made_the_run_is_without_error_and_wins(tmp_path, artifact):
    comparison = compared(tmp_path, artifact)
    assert (comparison.channel.density, comparison.channel.temperature) == pytest.approx((DENSITY, TEMPERATURE))
    outcome = compare(comparison, artifact, RIVALS, 100.0)
    assert outcome["laws"]["learned"]["largest_error"] < 1e-3 < outcome["laws"]["carreau"]["error"]
    assert outcome["helped"] and "is better than Carreau's" in outcome["verdict"]
    assert outcome["molecular_dynamics"]["inside_interval"]
    low, high = outcome["laws"]["learned"]["centre_interval"]
    assert low < outcome["laws"]["learned"]["centre"] < high
    assert outcome["cost_ratio"] == pytest.approx(100 / outcome["solver_seconds"])


def test_density_and_temperature_are_those_of_the_place(tmp_path):
    """A fluid that is warmer at the walls by 10 % and thinner by 2 %, whose viscosity goes as density over temperature:
    the velocity is that of du/dz = -n f z / eta(z) with local values, not with means."""
    middle, half = np.mean(WALLS), np.ptp(WALLS) / 2
    z = np.linspace(0, half, 2001)

    def state(distance):
        share = (distance / half) ** 2
        return DENSITY * (1 - 0.02 * share), TEMPERATURE * (1 + 0.1 * share)

    def viscosity(density, temperature):
        return 5 * density / temperature

    couette = write_profile(tmp_path / "couette.txt", line_between_walls)
    flat = write_profile(tmp_path / "poiseuille.txt", line_between_walls)
    density, temperature = state(flat.y - middle)
    poiseuille = Profile(flat.y, *(np.tile(values, (NUM_BLOCKS, 1)) for values in (density, density, temperature)))
    comparison = Comparison.of(couette, poiseuille, SPEED, FORCE, LAYER, 200)
    found = comparison.solve(lambda n, t, gradient: viscosity(n, t)[:, None] * gradient)
    slope = comparison.force * z / viscosity(*state(z))
    fall = np.concatenate([[0], np.cumsum((slope[1:] + slope[:-1]) / 2 * z[1])])
    expected = np.interp(np.abs(comparison.y - middle), z, fall[-1] - fall)
    assert np.abs(found - expected).max() < 1e-4 * expected.max()
    uniform = comparison.force * half**2 / 2 / viscosity(comparison.channel.density, comparison.channel.temperature)
    assert abs(uniform / expected.max() - 1) > 0.02  # or the test tests nothing


def test_a_classical_law_that_made_the_run_beats_the_learned_one_and_the_verdict_says_so(tmp_path, artifact):
    truth = constant_viscosity(9.0)
    comparison = compared(tmp_path, viscous(truth))
    outcome = compare(comparison, artifact, {"carreau": truth, "newtonian": constant_viscosity(5.0)}, 1.0)
    assert not outcome["helped"] and "loses to Carreau's" in outcome["verdict"]
    expected = 9.0 / 5.0 - 1  # the velocity goes as one over the viscosity
    assert outcome["laws"]["newtonian"]["centre_error"] == pytest.approx(expected, rel=1e-3)


def test_a_classical_law_that_carries_no_steady_flow_is_said_and_left_out(tmp_path, artifact):
    """Its stress falls as the rate rises: viscosity goes as the rate to the power of -2."""
    comparison = compared(tmp_path, artifact)
    constants = torch.tensor([0.0, 0, 0, 0, 0, 0, -2.0, 0, 0, 0]).double()
    falling = LogPolynomial(1.0, 1.0, constants, knee=0.01)
    outcome = compare(comparison, artifact, {"carreau": falling, "newtonian": constant_viscosity(9.0)}, 1.0)
    assert "off balance" in outcome["laws"]["carreau"]["failed"] and outcome["best_classical"] == "newtonian"
    assert "no steady flow by Carreau's" in outcome["verdict"] and outcome["helped"]


def test_what_lies_within_the_noise_is_no_win(tmp_path, artifact):
    comparison = compared(tmp_path, artifact, noise=0.3)
    slow = float(comparison.channel.steady(artifact, comparison.force).max())
    near = constant_viscosity(DENSITY * FORCE * comparison.channel.lengths[0] ** 2 / 8 / slow)
    outcome = compare(comparison, artifact, {"carreau": near, "newtonian": constant_viscosity(50.0)}, 1.0)
    assert comparison.noise > 0.01 and "cannot be told apart" in outcome["verdict"] and not outcome["helped"]


def test_faces_outside_of_the_trained_range_are_counted(tmp_path, artifact):
    comparison = compared(tmp_path, artifact)
    assert compare(comparison, artifact, RIVALS, 1.0)["laws"]["learned"]["faces_outside"] == 0
    far = Comparison(**(vars(comparison) | {"density": torch.full((101,), 0.5).double()}))
    outcome = compare(far, artifact, RIVALS, 1.0)
    assert outcome["laws"]["learned"]["faces_outside"] == 101


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("density/number", "density"), "no column density/number"),
        (lambda text: "\n".join(text.splitlines()[: 3 + 41 * 5]) + "\n", "too few"),
        (lambda text: text[: len(text) // 2], "line"),
    ],
)
def test_what_is_missing_in_a_profile_is_named(tmp_path, change, words):
    write_profile(tmp_path / "profile.txt", line_between_walls)
    (tmp_path / "profile.txt").write_text(change((tmp_path / "profile.txt").read_text()))
    with pytest.raises(DataError, match=words):
        read_profile(tmp_path / "profile.txt")


def test_a_fluid_that_stands_still_shows_no_walls(tmp_path):
    with pytest.raises(DataError, match="does not follow"):
        find_walls(write_profile(tmp_path / "p.txt", lambda y: 0 * y), SPEED, LAYER)
