"""The list of runs: roles, time steps, ladder."""

from dataclasses import replace

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow
from hpcsurrogate.core.errors import ConfigError, ModelRefusedError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.couple.contenders import (
    LearnedClosure,
    build_closure,
    fit_time_step,
    make_entries,
    require_same_fluxes,
)
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.physics.hosts import fold_closure, make_host
from scripts.random_artifacts import random_velocity, write_random_artifact


@pytest.mark.parametrize(
    ("time_step", "interval", "steps"),
    [(0.0125, 0.05, 4), (0.02, 0.05, 3), (0.0166667, 0.05, 3), (0.05, 0.05, 1), (0.3, 0.05, 1), (0.1, 0.3, 3)],
)
def test_time_step_is_the_largest_that_divides_the_interval(time_step, interval, steps):
    """A step that exceeds the wanted one by no more than the rounding of a decimal fraction is accepted."""
    fitted, number = fit_time_step(time_step, interval)
    assert number == steps
    assert fitted * number == pytest.approx(interval, rel=1e-15)
    assert fitted <= time_step * (1 + 1e-5)


def test_ladder_keeps_the_cell_shape_and_scales_the_step(make_experiment):
    experiment = make_experiment(
        host={"grid": (16, 32), "time_step": 0.05}, flow={"domain": (1.0, 2.0)}, couple={"ladder": (32, 16, 24)}
    )
    entries = make_entries(experiment, 0.1)
    ladder = [entry for entry in entries if entry.role == "ladder"]
    assert [entry.host.grid for entry in ladder] == [(24, 48), (32, 64)], "from coarse to fine, the own grid left out"
    # 0.05 * 16 / 24 = 0.0333: three of them fill the interval exactly; 0.05 / 2: four.
    assert [entry.steps_per_snapshot for entry in ladder] == [3, 4]


def test_bare_host_is_found_or_added(make_experiment):
    other = {"kind": "finite_volume", "grid": (16, 16), "order": 6, "time_step": 0.05}
    none = {"kind": "none"}
    sixth = {"name": "sixth", "closure": none, "host": other}
    own = {"name": "own", "closure": none, "host": {**other, "order": 2}}
    added = make_entries(make_experiment(couple={"contenders": (sixth,)}), 0.1)
    assert [(entry.name, entry.role) for entry in added] == [("no closure", "bare"), ("sixth", "classical")]
    found = make_entries(make_experiment(couple={"contenders": (sixth, own)}), 0.1)
    assert [(entry.name, entry.role) for entry in found] == [("sixth", "classical"), ("own", "bare")]


def test_only_open_constants_are_tuned(make_experiment):
    closures = [
        {"kind": "smagorinsky"},
        {"kind": "smagorinsky", "constant": 0.1},
        {"kind": "hyperviscosity", "rate": "tuned"},
        {"kind": "gradient"},
    ]
    contenders = tuple({"name": str(index), "closure": closure} for index, closure in enumerate(closures))
    entries = {e.name: e for e in make_entries(make_experiment(couple={"contenders": contenders}), 0.1)}
    assert [entries[str(index)].is_tuned for index in range(4)] == [True, False, True, False]
    assert [entries[str(index)].constant for index in range(4)] == [None, 0.1, None, None]
    assert not entries["0"].with_constants({"constant": 0.2}).is_tuned


def test_a_contender_on_a_coarser_grid_is_refused(make_experiment):
    coarse = {"kind": "spectral", "grid": (32, 8), "time_step": 0.05}
    contender = {"name": "coarse", "closure": {"kind": "none"}, "host": coarse}
    with pytest.raises(ConfigError, match="32 x 8 of 'coarse' is coarser than host.grid 16 x 16"):
        make_entries(make_experiment(couple={"contenders": (contender,)}), 0.1)


def test_delta_of_a_closure_is_the_width_of_the_filter(make_experiment, tmp_path):
    gradient = {"name": "gradient", "closure": {"kind": "gradient"}}
    wide = {"filter": {"kind": "box", "width_over_spacing": 2.0}}
    for prepare, cells in (({}, 1.0), (wide, 2.0)):
        plan = Plan(make_experiment(couple={"contenders": (gradient,)}, prepare=prepare), RunPaths(tmp_path))
        entry = make_entries(plan.experiment, 0.1)[-1]
        host = make_host(entry.host, plan.experiment.flow)
        assert build_closure(plan, entry, host).delta == pytest.approx(cells * host.grid.spacing[0])


def test_an_artifact_of_double_precision_serves_a_host_of_single_precision(make_experiment, export_damping, tmp_path):
    learned = {"name": "learned", "closure": {"kind": "learned"}}
    experiment, paths = make_experiment(couple={"contenders": (learned,)}), RunPaths(tmp_path)
    export_damping(paths.model, experiment, 0.5, torch.float64)
    entry = next(entry for entry in make_entries(experiment, 0.1) if entry.name == "learned")
    host = make_host(entry.host, experiment.flow)
    velocity = torch.ones(1, 2, *host.grid.shape)
    acceleration = build_closure(Plan(experiment, paths), entry, host)(velocity)
    assert acceleration.dtype == torch.float32 and torch.equal(acceleration, -0.5 * velocity)


def test_the_learned_closure_counts_the_cells_that_a_guard_would_take_from_it(
    make_experiment, export_damping, tmp_path
):
    """The artifact is trained up to 1 m/s; one start of four blew up and is left out."""
    learned = {"name": "learned", "closure": {"kind": "learned"}}
    experiment, paths = make_experiment(couple={"contenders": (learned,)}), RunPaths(tmp_path)
    export_damping(paths.model, experiment, 0.5)
    entry = next(entry for entry in make_entries(experiment, 0.1) if entry.name == "learned")
    host = make_host(entry.host, experiment.flow)
    closure = build_closure(Plan(experiment, paths), entry, host)
    assert closure.fallback_fraction == 0
    velocity = torch.full((4, 2, *host.grid.shape), 0.5)
    velocity[1], velocity[3, 0, 2, 2] = 2.0, torch.nan
    assert torch.equal(closure(velocity[:3]), -0.5 * velocity[:3])  # the network alone, outside too
    closure.watch(velocity[3:])
    assert closure.fallback_fraction == 0
    closure.watch(velocity)
    assert closure.fallback_fraction == pytest.approx(1 / 3)


@pytest.fixture
def deconvolution(tmp_path):
    """An artifact that stands in place of its host's fluxes, with its host."""
    config = FiniteVolumeHost(kind="finite_volume", grid=(12, 16), time_step=0.01)
    flow = Flow(viscosity=1e-3, domain=(3.0, 4.0))
    model = {"kind": "deconvolution", "knots": 8}
    write_random_artifact(tmp_path / "model.pt", model, config, flow, random_velocity(config))
    return load_artifact(tmp_path / "model.pt"), make_host(config, flow, torch.float64)


def test_an_artifact_stands_in_place_of_the_fluxes_in_the_precision_of_the_host(deconvolution):
    artifact, host = deconvolution
    closure = LearnedClosure(artifact)
    folded, left = fold_closure(host, closure)
    assert left is None
    state = host.encode(host.project(artifact.golden_inputs[0].double()))
    expected = host.solver.rhs(state, 0, closure)
    found = 0.5 * (folded.solver.rhs(state, 0) + folded.solver.rhs(state, 1))
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_an_artifact_for_other_fluxes_is_refused(deconvolution):
    artifact, _ = deconvolution
    require_same_fluxes(artifact)
    other = replace(artifact, golden_output=1.01 * artifact.golden_output)
    with pytest.raises(ModelRefusedError, match="`advection_hat` is not the closure and the host's fluxes"):
        require_same_fluxes(other)
