"""The whole stage on small flows: known outcomes, complete files, errors that name their key."""

import json

import numpy as np
import pytest

from hpcsurrogate.core.atomic import sha256_file
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.couple import stage
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.stage import compare, run_couple
from hpcsurrogate.data.record import run_simulate
from hpcsurrogate.parallel.world import World

CONTENDERS = (
    {"name": "bare", "closure": {"kind": "none"}},
    {"name": "Smagorinsky", "closure": {"kind": "smagorinsky"}},
    {
        "name": "order 4",
        "closure": {"kind": "hyperviscosity", "rate": 4.0},
        "host": {"kind": "finite_volume", "grid": (16, 16), "order": 4, "time_step": 0.05},
    },
    {
        "name": "spectral",
        "closure": {"kind": "none"},
        "host": {"kind": "spectral", "grid": (16, 16), "dealias": "shift", "time_step": 0.04},
    },
    {"name": "learned", "closure": {"kind": "learned"}},
)


def beside(recorded: RunPaths, tmp_path) -> RunPaths:
    """A run directory of its own that shares the recorded flow."""
    (tmp_path / "raw").symlink_to(recorded.raw)
    return RunPaths(tmp_path)


@pytest.fixture(scope="module")
def finished_paths(recorded, tmp_path_factory, make_experiment, export_damping):
    """A comparison in which the learned closure brakes the flow to a stop."""
    paths = beside(recorded, tmp_path_factory.mktemp("finished"))
    experiment = make_experiment(couple={"contenders": CONTENDERS, "ladder": (24, 32), "correlation": 0.99})
    export_damping(paths.model, experiment, 2.0)
    run_couple(experiment, paths, World())
    return paths


@pytest.fixture(scope="module")
def finished(finished_paths):
    return json.loads(finished_paths.coupling.read_text()), np.load(finished_paths.coupling_fields)


def test_it_names_the_file_that_ran(finished_paths, finished):
    assert finished[0]["artifact"] == sha256_file(finished_paths.model)


def test_stage_writes_a_complete_comparison(finished):
    summary, arrays = finished
    lines = {line["name"]: line for line in summary["contenders"]}
    roles = [line["role"] for line in summary["contenders"]]
    assert roles == ["bare", "classical", "classical", "classical", "learned", "ladder", "ladder"]
    assert summary["num_starts"] == 2 and summary["learned"] == "learned"
    margin = summary["margin"]
    longer = np.subtract(lines["learned"]["decorrelation_times"], lines[margin["rival"]]["decorrelation_times"])
    assert margin["time"] == pytest.approx(longer.mean())
    # One realisation of two starts: draws take either twice, or both.
    assert margin["interval"] == pytest.approx([longer.min(), longer.max()])
    assert summary["best_classical"] in ("Smagorinsky", "order 4"), "the spectral host is another kind of host"
    assert lines["Smagorinsky"]["constant"] in lines["Smagorinsky"]["tuning"]["candidates"]
    assert lines["order 4"]["constant"] == 4.0 and lines["order 4"]["tuning"] is None
    assert lines["bare"]["cost_ratio_step"] == 1.0
    assert all(line["cost_ms_per_step"] > 0 for line in lines.values())
    # 0.04 does not divide 0.1: the next smaller step that does is 0.1 / 3. The ladder's step follows the spacing.
    assert lines["spectral"]["host"]["time_step"] == pytest.approx(0.1 / 3)
    assert lines["no closure, 32 x 32"]["host"]["time_step"] == pytest.approx(0.025)
    for index, line in enumerate(summary["contenders"]):
        assert arrays[f"correlation/{index}"].shape == arrays["times"].shape == (11,)
        assert arrays[f"spectrum/{index}"].shape == arrays["wavenumber"].shape == (7,)
        assert (f"vorticity/{index}" in arrays) == (line["grid"] == [16, 16])
    assert arrays["vorticity_reference"].shape == (3, 16, 16)


def test_every_run_starts_from_its_reference(finished):
    """Float32 transforms leave about 1e-6; a start on another grid or at another time correlates far below."""
    summary, arrays = finished
    for index in range(len(summary["contenders"])):
        assert arrays[f"correlation/{index}"][0] == pytest.approx(1.0, abs=1e-5)
        assert arrays[f"energy/{index}"][0] == pytest.approx(arrays[f"reference_energy/{index}"][0], rel=1e-4)


def test_a_finer_bare_host_keeps_the_flow_longer(finished):
    summary, _ = finished
    lines = {line["name"]: line for line in summary["contenders"]}
    names = ("bare", "no closure, 24 x 24", "no closure, 32 x 32")
    times = [lines[name]["decorrelation_time"] for name in names]
    assert times == sorted(times) and times[0] < times[-1]


def test_a_braking_closure_is_found_out(finished):
    """Damping at 2 / s leaves exp(-4) of the energy after 1 s, and about 3 % on average over the last quarter."""
    summary, _ = finished
    learned = next(line for line in summary["contenders"] if line["role"] == "learned")
    assert not summary["helped"]
    assert "did not help" in summary["verdict"]
    assert learned["energy_error"] > 0.9


def test_a_closure_that_blows_up_after_the_comparison_has_not_helped(
    recorded, tmp_path, make_experiment, export_damping
):
    """Growth at 1 / s: the comparison of 1 s is finite, which is all that its scores are made of."""
    paths = beside(recorded, tmp_path)
    contenders = (CONTENDERS[0], CONTENDERS[-1])
    experiment = make_experiment(couple={"contenders": contenders, "long_run": 30.0, "lengthen_steps": False})
    export_damping(paths.model, experiment, -1.0)
    run_couple(experiment, paths, World())
    summary = json.loads(paths.coupling.read_text())
    learned = next(line for line in summary["contenders"] if line["role"] == "learned")
    assert learned["stable"] and learned["endurance"]["duration"] == pytest.approx(30.0)
    assert 1.0 < learned["endurance"]["blow_up_time"] < 30.0
    assert not summary["helped"] and "carried on, a run with it blew up" in summary["verdict"]


def test_it_says_how_much_of_the_flow_was_beyond_the_training_of_the_artifact(finished):
    """The artifact of these tests is trained up to 1 m/s and 1 / s, which only the braked flow stays below."""
    summary, _ = finished
    fractions = {line["role"]: line["fallback_fraction"] for line in summary["contenders"]}
    assert 0.01 < fractions.pop("learned") < 0.99 and set(fractions.values()) == {None}
    assert "of the cells in its runs were beyond what it was trained on" in summary["verdict"]


def test_the_solver_that_made_the_data_reproduces_it(make_experiment, tmp_path):
    """Same solver, grid and step, sharp filter: float32 round-off is all that differs, and 1 s amplifies it little."""
    experiment = make_experiment(
        host={"kind": "spectral", "grid": (32, 32), "time_step": 0.0125},
        simulate={"grid": (32, 32)},
        prepare={"filter": {"kind": "sharp"}},
    )
    paths = RunPaths(tmp_path)
    run_simulate(experiment, paths, World())
    run_couple(experiment, paths, World())
    (bare,) = json.loads(paths.coupling.read_text())["contenders"]
    correlation = np.load(paths.coupling_fields)["correlation/0"]
    assert bare["reached_end"] and bare["stable"] and bare["decorrelation_time"] == pytest.approx(1.0)
    assert correlation.min() > 1 - 1e-6
    assert bare["energy_error"] < 1e-4 and bare["enstrophy_error"] < 1e-4 and bare["spectrum_log_error"] < 1e-3


def test_the_same_stage_twice_gives_the_same_scores(recorded, tmp_path, make_experiment):
    paths = beside(recorded, tmp_path)
    experiment = make_experiment()
    scores = []
    for _ in range(2):
        run_couple(experiment, paths, World())
        (line,) = json.loads(paths.coupling.read_text())["contenders"]
        scores.append((line["decorrelation_times"], line["spectrum_log_error"]))
    assert scores[0] == scores[1]


def test_a_run_that_blows_up_is_reported_as_such(recorded, tmp_path, make_experiment):
    """An eddy viscosity of (30 Delta)^2 |S|, stepped explicitly, multiplies the highest modes many times a step."""
    wild = {"name": "wild", "closure": {"kind": "smagorinsky", "constant": 30.0}}
    paths = beside(recorded, tmp_path)
    run_couple(make_experiment(couple={"contenders": (wild,)}), paths, World())
    bare, line = json.loads(paths.coupling.read_text())["contenders"]
    assert bare["role"] == "bare" and bare["name"] == "no closure", "the bare host is added if no contender is it"
    assert not line["stable"] and 0 < line["blow_up_time"] <= 1.0
    assert line["spectrum_log_error"] is None and line["energy_error"] is None
    assert line["rollout_error"] is None and line["similarity"] is None and line["energy_budget"] is None
    assert bare["similarity"] == 0.0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"couple": {"duration": 5.0}}, ConfigError, "couple.duration: 2 start"),
        ({"couple": {"duration": 0.01}}, ConfigError, "couple.duration: 0.01 s is shorter"),
        ({"couple": {"ladder": (8,)}}, ConfigError, "8 x 8 of 'no closure, 8 x 8' is coarser than host.grid 16 x 16"),
        ({"couple": {"ladder": (96,)}}, ConfigError, "finer than the data"),
        ({"couple": {"contenders": CONTENDERS}}, DataError, "model.pt"),
    ],
)
def test_what_cannot_be_compared_is_one_line(recorded, tmp_path, make_experiment, changes, error, message):
    paths = beside(recorded, tmp_path)
    with pytest.raises(error, match=message):
        run_couple(make_experiment(**changes), paths, World())
    assert not paths.coupling.exists() and not paths.coupling_fields.exists()


def test_an_artifact_for_other_cells_is_refused_before_anything_runs(
    recorded, tmp_path, make_experiment, export_damping, monkeypatch
):
    """Cells of 2 pi / 16 in a host of 2 pi / 24; of a contender's own host and of its ladder alike."""
    paths = beside(recorded, tmp_path)
    own = make_experiment().host.model_dump()
    learned = {"name": "learned", "closure": {"kind": "learned"}}
    export_damping(paths.model, make_experiment(), 0.1)
    monkeypatch.setattr(stage, "tune_entries", lambda *_: pytest.fail("ran before it refused"))
    for contender in (learned | {"host": own | {"grid": (24, 24)}}, learned | {"ladder": (24,)}):
        with pytest.raises(ConfigError, match=r"model\.pt is for cells of 0\.392699 m .* 0\.261799 m"):
            run_couple(make_experiment(couple={"contenders": (contender,)}), paths, World())


def test_every_rung_of_a_contender_is_tuned_by_itself(recorded, tmp_path, make_experiment):
    """Or its price of accuracy would flatter what is compared with it."""
    contender = {"name": "Smagorinsky", "closure": {"kind": "smagorinsky"}, "ladder": (16, 24)}
    paths = beside(recorded, tmp_path)
    run_couple(make_experiment(couple={"contenders": (contender,)}), paths, World())
    lines = {line["name"]: line for line in json.loads(paths.coupling.read_text())["contenders"]}
    assert set(lines) == {"no closure", "Smagorinsky", "Smagorinsky, 24 x 24"}
    base, rung = lines["Smagorinsky"], lines["Smagorinsky, 24 x 24"]
    assert base["constants"] == {"constant": base["constant"]} and rung["constants"] == {"constant": rung["constant"]}
    assert rung["constant"] != base["constant"] and rung["tuning"]["candidates"]
    assert rung["ladder_of"] == "Smagorinsky" and rung["role"] == "classical"
    assert rung["rollout_error"] < base["rollout_error"]
    low, high = base["rollout_error_interval"]
    assert low <= base["rollout_error"] <= high


def test_runs_may_start_from_other_realisations_than_the_test_split(recorded, tmp_path, make_experiment):
    """Without anything to tune no validation realisation is asked for: here there is none of that number."""
    paths = beside(recorded, tmp_path)
    experiment = make_experiment(prepare={"split": {"train": (5,), "validation": (6,), "test": (7,)}})
    compare(Plan(experiment, paths, run_from=(0, 2)))
    summary = json.loads(paths.coupling.read_text())
    assert [start["realisation"] for start in summary["reference"]["starts"]] == [0, 0, 2, 2]


def test_a_closure_of_another_file_is_a_contender_but_not_the_one_of_the_verdict(
    recorded, tmp_path, make_experiment, export_damping
):
    """The experiment's own brakes hard, the other hardly: the verdict is about the former all the same."""
    paths = beside(recorded, tmp_path)
    other = tmp_path / "other.pt"
    contenders = (
        {"name": "other", "closure": {"kind": "learned", "artifact": str(other)}},
        {"name": "own", "closure": {"kind": "learned"}},
    )
    experiment = make_experiment(couple={"contenders": contenders})
    export_damping(paths.model, experiment, 3.0)
    export_damping(other, experiment, 0.01)
    run_couple(experiment, paths, World())
    summary = json.loads(paths.coupling.read_text())
    lines = {line["name"]: line for line in summary["contenders"]}
    assert lines["other"]["decorrelation_time"] >= lines["own"]["decorrelation_time"]
    assert lines["own"]["energy_error"] > 10 * lines["other"]["energy_error"]
    assert summary["learned"] == "own" and summary["artifact"] == sha256_file(paths.model)
