"""The stages of each kind of experiment."""

from collections.abc import Sequence
from pathlib import Path

from hpcsurrogate.core.config_cells import CellExperiment
from hpcsurrogate.core.config_fluid import FluidExperiment
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import AnyExperiment
from hpcsurrogate.pipeline.stage import Stage
from hpcsurrogate.pipeline.stages import STAGES
from hpcsurrogate.pipeline.stages_cells import CELL_STAGES
from hpcsurrogate.pipeline.stages_fluid import FLUID_STAGES


def stages_of(experiment: AnyExperiment) -> tuple[Stage, ...]:
    """Return the stages that an experiment walks through, in order."""
    if isinstance(experiment, CellExperiment):
        judged = CELL_STAGES if experiment.couple is not None else CELL_STAGES[:-3]
        return judged if experiment.simulate.run else judged[1:]  # a run that was made before is no stage
    return FLUID_STAGES if isinstance(experiment, FluidExperiment) else STAGES


def verdict_file(experiment: AnyExperiment, paths: RunPaths) -> Path | None:
    """Return the JSON file whose `verdict` is the last word on an experiment; None if it is not judged in a solver."""
    unjudged = isinstance(experiment, CellExperiment) and experiment.couple is None
    return None if unjudged else paths.coupling


def stage_index(stages: Sequence[Stage], name: str) -> int:
    """Return the position of a stage.

    Raises
    ------
    ConfigError    if there is no such stage
    """
    names = [stage.name for stage in stages]
    if name not in names:
        raise ConfigError(f"stage '{name}' does not exist for this kind of file; its stages are {', '.join(names)}")
    return names.index(name)
