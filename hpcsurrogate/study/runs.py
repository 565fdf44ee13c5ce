"""Run directories that share the data of a main run: its raw/ and prepared/ are linked, not made again."""

import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hpcsurrogate.core.atomic import write_text_atomic
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import dump_experiment, load_experiment
from hpcsurrogate.pipeline.records import why_stale
from hpcsurrogate.pipeline.stages import STAGES, Stage

DATA_STAGES: tuple[Stage, ...] = tuple(stage for stage in STAGES if stage.name in ("simulate", "prepare"))


def changed_experiment(experiment: Experiment, overrides: Sequence[str]) -> Experiment:
    """The experiment, all its defaults written out, with `section.key=value` applied.

    Raises
    ------
    ConfigError    if an override asks for something that does not exist or cannot be
    """
    with tempfile.TemporaryDirectory() as folder:
        resolved = Path(folder) / "experiment.yaml"
        resolved.write_text(dump_experiment(experiment), encoding="utf-8")
        try:
            return load_experiment(resolved, overrides)
        except ConfigError as error:
            # Lines of a file that nobody has written help nobody.
            raise ConfigError(re.sub(rf"^{re.escape(str(resolved))}:[\d:]+ ", "", str(error))) from None


def linked_run(experiment: Experiment, directory: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Make a run directory for a changed experiment, which shares what the change leaves as it is.

    A data stage is shared when the main run has done it just as the changed experiment wants it: the new directory then
    has a link to its output and a copy of its record, and takes it as up to date. From the first stage that is not so,
    the new run does its own. Can be called again for the same directory: links are set anew, what the run itself has
    made stays.

    Parameters
    ----------
    experiment : Experiment          of the main run, whose run_dir holds the data
    directory : Path                 the new run directory; made if missing
    overrides : sequence of str      `section.key=value`; `run_dir` is set here

    Returns
    -------
    Experiment    the changed one, without `tune`; it stands in `directory`/config.yaml, for `hpcsurrogate run`

    Raises
    ------
    ConfigError    if an override asks for something that does not exist or cannot be
    DataError      if a record of the main run is damaged

    Notes
    -----
    A change of the training leaves raw/ and prepared/ shared, of the filter raw/ alone, of the flow nothing
    (tests/unit/study/test_study_runs.py).
    """
    placed = [*overrides, f"run_dir={json.dumps(str(directory))}"]
    changed = changed_experiment(experiment.model_copy(update={"tune": None}), placed)
    main, own = RunPaths(experiment.run_dir), RunPaths(directory)
    write_text_atomic(own.config, dump_experiment(changed))
    shared = True
    for stage in DATA_STAGES:
        shared = shared and not _made_here(stage, own) and why_stale(stage, changed, main) is None
        if shared:
            _link(stage, main, own)
        else:
            _unlink(stage, own)
    return changed


def _made_here(stage: Stage, own: RunPaths) -> bool:
    outputs = [getattr(own, name) for name in stage.outputs]
    return any(path.exists() and not path.is_symlink() for path in outputs)


def _link(stage: Stage, main: RunPaths, own: RunPaths) -> None:
    """The record is copied last: without it the stage counts as not done."""
    for name in stage.outputs:
        link: Path = getattr(own, name)
        # Counted from the link's own folder, so that a run can be moved with all that hangs on it.
        target = os.path.relpath(getattr(main, name).resolve(), own.run_dir.resolve())
        link.unlink(missing_ok=True)
        link.symlink_to(target, target_is_directory=True)
    record = _record_path(stage, main).read_text(encoding="utf-8")
    write_text_atomic(_record_path(stage, own), record)


def _unlink(stage: Stage, own: RunPaths) -> None:
    for path in (getattr(own, name) for name in stage.outputs):
        if path.is_symlink():
            _record_path(stage, own).unlink(missing_ok=True)
            path.unlink()


def _record_path(stage: Stage, paths: RunPaths) -> Path:
    return paths.stages / f"{stage.name}.json"
