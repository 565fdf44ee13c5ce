"""The stage generalise: cases stand by themselves, nothing is tuned again, and what does not fit is refused early."""

import json

import pytest

from hpcsurrogate.core.errors import ConfigError, DivergedError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.couple import unseen
from hpcsurrogate.couple.unseen import run_generalise
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.parallel.world import World

TUNED = {"name": "Smagorinsky", "closure": {"kind": "smagorinsky"}, "ladder": (24,)}
LEARNED = {"name": "learned", "closure": {"kind": "learned"}}


def thicker(experiment, **changes):
    """A case: the same flow, five times as viscous."""
    flow = experiment.flow.model_dump() | {"viscosity": 1e-2}
    return {"name": "thicker", "flow": flow, "duration": 0.4, "starts": 1} | changes


def with_case(make_experiment, tmp_path, *contenders, **changes):
    experiment = make_experiment(run_dir=str(tmp_path), couple={"contenders": contenders, "ladder": (24,)})
    content = experiment.model_dump() | {"unseen": (thicker(experiment, **changes),)}
    return type(experiment).model_validate(content), RunPaths(tmp_path)


def write_parent(paths, constants):
    line = {"name": "Smagorinsky", "constants": constants}
    paths.coupling.write_text(json.dumps({"contenders": [line, {"name": "learned", "constants": {}}]}))


def test_a_case_is_another_flow_with_the_constants_of_the_experiment(make_experiment, tmp_path):
    experiment, paths = with_case(make_experiment, tmp_path, TUNED)
    write_parent(paths, {"constant": 0.0625})
    run_generalise(experiment, paths, World())
    case = json.loads(paths.unseen.read_text())["cases"]["thicker"]
    line = next(line for line in case["contenders"] if line["name"] == "Smagorinsky")
    assert line["constant"] == 0.0625 and line["tuning"] is None
    assert [line["name"] for line in case["contenders"]] == ["no closure", "Smagorinsky"], "no ladders"
    assert case["num_starts"] == 3 and case["reference"]["duration"] == pytest.approx(0.4)
    recorded = Catalogue.read(tmp_path / "unseen" / "thicker" / "raw")
    assert recorded.entry(0).parameters["viscosity"] == 1e-2


def test_cases_start_from_fields_that_training_never_saw(make_experiment, tmp_path):
    experiment, _ = with_case(make_experiment, tmp_path, TUNED)
    twice = experiment.model_copy(
        update={"unseen": (*experiment.unseen, experiment.unseen[0].model_copy(update={"name": "more"}))}
    )
    seeds = [twice.seed, *(twice.of_case(case).seed for case in twice.unseen)]
    assert len(set(seeds)) == 3


def test_an_artifact_for_other_cells_is_refused_before_anything_is_recorded(make_experiment, tmp_path, export_damping):
    host = make_experiment().host.model_dump() | {"grid": (24, 24)}
    experiment, paths = with_case(make_experiment, tmp_path, LEARNED, host=host)
    write_parent(paths, {})
    export_damping(paths.model, experiment, 0.1)
    with pytest.raises(
        ConfigError,
        match=r"unseen case thicker: the artifact .*model\.pt is for cells of 0\.392699 m .* 0\.261799 m",
    ):
        run_generalise(experiment, paths, World())
    assert not (tmp_path / "unseen").exists()


def test_a_named_artifact_must_fit_too(make_experiment, tmp_path, export_damping):
    artifact = tmp_path / "other.pt"
    named = {"name": "learned", "closure": {"kind": "learned", "artifact": str(artifact)}}
    host = make_experiment().host.model_dump() | {"grid": (24, 24)}
    experiment, paths = with_case(make_experiment, tmp_path, named, host=host)
    write_parent(paths, {})
    export_damping(artifact, experiment, 0.1)
    with pytest.raises(ConfigError, match=r"unseen case thicker: the artifact .*other\.pt is for cells"):
        run_generalise(experiment, paths, World())


def test_a_host_of_a_contender_keeps_its_place_beside_the_host_of_a_case(make_experiment, tmp_path):
    own = make_experiment().host.model_dump()
    better = {"name": "better", "closure": {"kind": "none"}, "host": own | {"order": 4, "time_step": 0.05}}
    theirs = own | {"grid": tuple(n // 2 for n in own["grid"]), "time_step": 2 * own["time_step"]}
    experiment, _ = with_case(make_experiment, tmp_path, better, host=theirs)
    (contender,) = experiment.of_case(experiment.unseen[0]).couple.contenders
    assert (contender.host.grid, contender.host.order) == (theirs["grid"], 4)
    assert contender.host.time_step == pytest.approx(0.1)
    assert experiment.couple.contenders[0].host.grid == own["grid"], "the experiment stays as it is"


def test_folders_of_former_cases_are_named_and_kept(make_experiment, tmp_path, monkeypatch):
    experiment, paths = with_case(make_experiment, tmp_path, TUNED)
    write_parent(paths, {"constant": 0.0625})
    former = paths.unseen_cases / "former"
    former.mkdir(parents=True)
    said = []
    monkeypatch.setattr(unseen.log, "warning", lambda *words: said.append(words[0] % words[1:]))
    run_generalise(experiment, paths, World())
    assert former.is_dir() and len(said) == 1 and str(former) in said[0]
    assert list(json.loads(paths.unseen.read_text())["cases"]) == ["thicker"]


def test_an_error_in_a_case_keeps_its_class_and_rank_and_names_the_case(make_experiment, tmp_path, monkeypatch):
    experiment, paths = with_case(make_experiment, tmp_path, TUNED)
    write_parent(paths, {"constant": 0.0625})

    def fail(*_):
        error = DivergedError("velocity is not finite")
        error.from_rank = 3
        raise error

    monkeypatch.setattr(unseen, "run_simulate", fail)
    with pytest.raises(DivergedError, match="^unseen case thicker: velocity is not finite$") as found:
        run_generalise(experiment, paths, World())
    assert found.value.from_rank == 3 and not paths.unseen.exists()


def test_without_cases_there_is_an_empty_table(make_experiment, tmp_path):
    experiment = make_experiment()
    paths = RunPaths(tmp_path)
    write_parent(paths, {})
    run_generalise(experiment, paths, World())
    assert json.loads(paths.unseen.read_text()) == {"cases": {}}
