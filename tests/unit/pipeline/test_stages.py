from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.pipeline import records
from hpcsurrogate.pipeline.stages import STAGES


def test_the_order_is_that_of_the_data():
    in_order = ("simulate", "prepare", "train", "evaluate", "export", "verify", "couple", "generalise")
    in_order += ("certify", "report")
    assert in_order == tuple(stage.name for stage in STAGES)


def test_every_section_that_changes_a_result_belongs_to_one_stage():
    """What is left over says where and how the run is done, not what comes out."""
    named = [section for stage in STAGES for section in stage.sections]
    assert len(named) == len(set(named))
    assert set(Experiment.model_fields) - set(named) == {"run_dir", "ranks", "threads_per_rank", "tune", "slurm"}


def test_outputs_and_progress_are_names_of_paths():
    paths = RunPaths("run")
    for stage in STAGES:
        for name in (*stage.outputs, *stage.optional, *stage.progress):
            assert getattr(paths, name).is_relative_to(paths.run_dir)


def test_half_written_files_are_no_outputs(tmp_path):
    paths = RunPaths(tmp_path)
    paths.raw.mkdir()
    (paths.raw / "realisation-0000.hdf5").touch()
    (paths.raw / ".partial-realisation-0001.hdf5").touch()
    assert [file.name for file in STAGES[0].output_files(paths)] == ["realisation-0000.hdf5"]


def test_changed_files_of_the_user_make_simulate_stale(experiment, tmp_path):
    data = tmp_path / "mine.hdf5"
    content = experiment.model_dump(mode="json")
    content["simulate"] = {"kind": "well", "files": [str(data)]}
    mine = Experiment.model_validate(content, strict=False)
    keys = []
    for text in (None, "a", "ab"):
        if text:
            data.write_text(text)
        keys.append(records.stage_key(STAGES[0], mine, RunPaths(tmp_path / "run")))
    assert len(set(keys)) == 3
