"""What is done and what is stale: one record per stage, written when it starts and when it ends.

A record holds the key of the attempt (package version, sections of the experiment, record of the stage before) and the
size, modification time and SHA-256 of every output. A stage is up to date when its key is what it would be now and its
outputs are what was recorded.
"""

import shutil
from typing import Any

import hpcsurrogate
from hpcsurrogate.core.atomic import read_json, sha256_file, write_json_atomic
from hpcsurrogate.core.config import Train
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import digest, provenance
from hpcsurrogate.core.yaml_loader import AnyExperiment
from hpcsurrogate.pipeline.kinds import stages_of
from hpcsurrogate.pipeline.stage import Stage

Record = dict[str, Any]


def read_record(stage: Stage, paths: RunPaths) -> Record | None:
    """Return the record of a stage, None if it was never started here.

    Raises
    ------
    DataError    if the file is no record of this stage
    """
    path = paths.stages / f"{stage.name}.json"
    if not path.exists():
        return None
    record = read_json(path)
    if not isinstance(record, dict) or record.get("stage") != stage.name or "key" not in record:
        raise DataError(f"{path}: is no record of stage {stage.name}; remove the file, and the stage is done again")
    return record


def stage_key(stage: Stage, experiment: AnyExperiment, paths: RunPaths) -> str:
    """Return the digest of all that decides the result of a stage, the record of the stage before included.

    Number of ranks, threads, the name of the run directory and Train.OPERATIONAL are not among it.
    """
    content: Record = {
        "stage": stage.name,
        "version": hpcsurrogate.__version__,
        "sections": {name: _decisive(getattr(experiment, name)) for name in stage.sections},
        "before": _result_digest(stage, experiment, paths),
    }
    if stage.inputs is not None and (inputs := stage.inputs(experiment)) is not None:
        content["files"] = inputs
    return digest(content)


def _decisive(section: Any) -> Any:
    """A section without the keys that do not change the result."""
    return section.model_dump(mode="json", exclude=section.OPERATIONAL) if isinstance(section, Train) else section


def _result_digest(stage: Stage, experiment: AnyExperiment, paths: RunPaths) -> str | None:
    """Digest of what the stage before made: its key and the contents of its outputs, not when it ran."""
    stages = stages_of(experiment)
    position = stages.index(stage)
    record = read_record(stages[position - 1], paths) if position else None
    if record is None or not record["finished"]:
        return None
    checksums = {name: output["sha256"] for name, output in record["outputs"].items()}
    return digest({"key": record["key"], "outputs": checksums})


def why_stale(stage: Stage, experiment: AnyExperiment, paths: RunPaths) -> str | None:
    """Say why a stage must be done, None if it is up to date. Stages before it must have been looked at already.

    Returns
    -------
    str or None    "not done yet", "was interrupted", "experiment or input changed", or which output is not as recorded
    """
    record = read_record(stage, paths)
    if record is None:
        return "not done yet"
    if record["key"] != stage_key(stage, experiment, paths):
        return "experiment or input changed"
    if not record["finished"]:
        return "was interrupted"
    if not record["outputs"]:
        return "it recorded no output"
    for name, expected in record["outputs"].items():
        file = paths.run_dir / name
        if not file.is_file():
            return f"{name} is missing"
        status = file.stat()
        if status.st_size != expected["size"]:
            return f"{name} changed"
        # The same size and time are taken for the same file; another time alone may be a copy, so look inside.
        if status.st_mtime_ns != expected["mtime_ns"] and sha256_file(file) != expected["sha256"]:
            return f"{name} changed"
    return None


def record_start(stage: Stage, experiment: AnyExperiment, paths: RunPaths) -> None:
    """Write that a stage began. Progress of an attempt that cannot be continued is moved aside to `<name>.previous`.

    An attempt is continued when it was interrupted and had the same key (tests/unit/pipeline/test_records.py).
    """
    key = stage_key(stage, experiment, paths)
    previous = read_record(stage, paths)
    if previous is None or previous["finished"] or previous["key"] != key:
        _move_progress_aside(stage, paths)
    _write(
        stage, paths, {"stage": stage.name, "key": key, "finished": False, "provenance": provenance(), "outputs": {}}
    )


def record_end(stage: Stage, experiment: AnyExperiment, paths: RunPaths, seconds: float, ranks: int) -> None:
    """Write that a stage is done, with its outputs.

    Raises
    ------
    DataError    if an output that the stage promises does not exist
    """
    for name in stage.outputs:
        if not getattr(paths, name).exists():
            raise DataError(f"{getattr(paths, name)}: stage {stage.name} ended without writing it; run the stage again")
    outputs = {}
    for file in stage.output_files(paths):
        status = file.stat()
        outputs[file.relative_to(paths.run_dir).as_posix()] = {
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "sha256": sha256_file(file),
        }
    record = {
        "stage": stage.name,
        "key": stage_key(stage, experiment, paths),
        "finished": True,
        "seconds": round(seconds, 3),
        "ranks": ranks,
        "provenance": provenance(),
        "outputs": outputs,
    }
    _write(stage, paths, record)


def _write(stage: Stage, paths: RunPaths, record: Record) -> None:
    write_json_atomic(paths.stages / f"{stage.name}.json", record)


def _move_progress_aside(stage: Stage, paths: RunPaths) -> None:
    for name in stage.progress:
        path = getattr(paths, name)
        aside = path.with_name(path.name + ".previous")
        if not path.exists():
            continue
        if aside.is_dir():
            shutil.rmtree(aside)
        path.replace(aside)
