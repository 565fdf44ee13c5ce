"""The coarse case of OpenFOAM beside the fine run: set up for a model, run, and read as what is scored."""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from hpcsurrogate.core.atomic import read_json, sha256_file, write_json_atomic
from hpcsurrogate.core.config_cells import CellExperiment
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.couple.cell_profiles import NUM_BLOCKS, Moments, Places, wall_shear_stress
from hpcsurrogate.couple.cell_verdict import CoarseRun
from hpcsurrogate.data.ingest_openfoam import averages_between
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.cell_averages import CellAverages
from hpcsurrogate.pipeline.openfoam import (
    TURBULENCE,
    case_files,
    checked_commands,
    copy_case,
    do_commands,
    is_of_model,
    own_cases,
    turbulence_of,
)
from hpcsurrogate.sources.openfoam import OpenFoamCase
from hpcsurrogate.sources.openfoam_files import read_number, write_velocity
from hpcsurrogate.sources.openfoam_mesh import velocity_on_boundary

log = get_logger("couple")

TRANSPORT = Path("constant", "transportProperties")
MESH = Path("constant", "polyMesh")
CONTROL = Path("system", "controlDict")
ARTIFACT = "pointwise.pt"  # its name in constant/ of the case of a learned model
RECORD = "run.json"


@dataclass(frozen=True)
class CoarseCase:
    """The coarse case and the fine run that it is compared with.

    Attributes
    ----------
    experiment : CellExperiment
    commands : list of list of str    what makes a run
    fine, meshed : OpenFoamCase       the fine run; the coarse case with its mesh
    averages : CellAverages
    places : Places
    """

    experiment: CellExperiment
    commands: list[list[str]]
    fine: OpenFoamCase
    meshed: OpenFoamCase
    averages: CellAverages
    places: Places

    @classmethod
    def of(cls, experiment: CellExperiment, models: Sequence[str]) -> Self:
        """Read both meshes.

        Raises
        ------
        ConfigError    if a model's file or the library is missing, or a command is no program
        DataError      if a case is missing or damaged
        """
        couple, own = experiment.couple, own_cases(experiment)
        for model in models:
            path = Path(experiment.prepare.coarse) / turbulence_of(model)
            if not path.is_file():
                raise ConfigError(f"couple.models: {path}: is missing; write what turbulenceProperties is for {model}")
        if not Path(couple.library).is_file():
            raise ConfigError(f"couple.library: {couple.library}: is missing; build it by `make openfoam`")
        commands = checked_commands(couple.run, "couple.run")
        fine, meshed = OpenFoamCase(own.simulate.case), OpenFoamCase(own.prepare.coarse)
        places = Places.of(meshed.mesh, couple.average_over)
        return cls(experiment, commands, fine, meshed, averages_between(fine, meshed), places)

    def times(self, training: bool) -> list[str]:
        """Return the times of the fine run that training sees, or those that it does not.

        Raises
        ------
        ConfigError    if they are too few to score
        """
        source, prepare = self.experiment.simulate, self.experiment.prepare
        times = self.fine.times(source.velocity, source.start, source.stop)
        first = prepare.num_training(len(times))
        chosen = times[:first] if training else times[first:]
        _require_times(chosen, self.fine.path, "simulate.start and stop, and prepare.validation")
        return chosen

    def reference(self, times: list[str], world: World) -> Moments:
        """Average the fine run onto the coarse mesh at these times, which the ranks share; all must call this."""
        with world.failing_together():
            wall_of = self._wall_stress(self.fine)

        def moments_at(time: str) -> Moments:
            velocity = self.fine.field(self.experiment.simulate.velocity, time, 3)
            return Moments.of(self.places, self._onto_coarse(velocity), wall_of(velocity))

        return Moments.joined(world.map(moments_at, times))

    def start(self, time: str) -> np.ndarray:
        """Return the velocity of the fine run averaged onto the coarse mesh, shape (n, 3) [m/s]."""
        return self._onto_coarse(self.fine.field(self.experiment.simulate.velocity, time, 3))

    def run(self, folder: Path, model: str, start: np.ndarray, artifact: Path | None = None) -> CoarseRun:
        """Do the run of one model in a folder, unless it is done, and read what is scored of it.

        Parameters
        ----------
        folder : Path
        model : str                            its turbulenceProperties have this ending
        start : ndarray, shape (n, 3) [m/s]
        artifact : Path, optional              of a model that has one

        Raises
        ------
        ConfigError    if it leaves too few times to score

        Notes
        -----
        A run that is finished is kept until the coarse case, its start, its commands or the artifact change
        (tests/openfoam/test_couple.py).
        """
        couple, name = self.experiment.couple, self.experiment.simulate.velocity
        wanted = self._what_decides(model, start, artifact)
        record = read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
        if record.get("decided_by") != wanted:
            self._set_up(folder, model, artifact)
            write_velocity(folder / OpenFoamCase(folder).times(name)[0] / name, start)
            record = {"decided_by": wanted}
            try:
                record["commands"] = do_commands(self.commands, folder)
            except DataError as error:
                log.warning("%s", error)
                record["failed"] = str(error)
            write_json_atomic(folder / RECORD, record)
        if "failed" in record:
            return CoarseRun(None, None, None, record["failed"])
        case = OpenFoamCase(folder)
        first = float(case.times(name)[0]) + couple.discard + read_number(folder / CONTROL, "deltaT") / 2
        times = case.times(name, first)
        _require_times(times, folder, "couple.discard, and endTime and writeInterval of the coarse case")
        wall_of = self._wall_stress(case)
        fields = (case.field(name, time, 3) for time in times)
        moments = [Moments.of(self.places, field, wall_of(field)) for field in fields]
        text = "".join(file.read_text(errors="replace") for file in sorted(folder.glob("log.*")))
        return CoarseRun(Moments.joined(moments), _seconds_per_step(text), _fallback_share(text), None)

    def _onto_coarse(self, velocity: np.ndarray) -> np.ndarray:
        return self.averages.velocity_and_stress(velocity)[0]

    def _wall_stress(self, case: OpenFoamCase) -> Callable[[np.ndarray], np.ndarray]:
        """From a velocity of a case to the shear stress on its walls."""
        name = self.experiment.simulate.velocity
        conditions, viscosity = case.path / case.times(name)[0] / name, read_number(case.path / TRANSPORT, "nu")
        return lambda velocity: wall_shear_stress(
            case.mesh, viscosity, velocity, velocity_on_boundary(conditions, case.mesh, velocity)
        )

    def _what_decides(self, model: str, start: np.ndarray, artifact: Path | None) -> str:
        source, couple = Path(self.experiment.prepare.coarse), self.experiment.couple
        files = [file for file in case_files(source) if is_of_model(file, model)]
        files += [] if artifact is None else [artifact, Path(couple.library)]
        return digest([list(couple.run), [sha256_file(file) for file in files], digest(start.tolist())])

    def _set_up(self, folder: Path, model: str, artifact: Path | None) -> None:
        copy_case(Path(self.experiment.prepare.coarse), folder)
        shutil.copytree(self.meshed.path / MESH, folder / MESH, dirs_exist_ok=True)
        shutil.copyfile(folder / turbulence_of(model), folder / TURBULENCE)
        if artifact is not None:
            shutil.copyfile(artifact, folder / "constant" / ARTIFACT)
            shutil.copyfile(f"{artifact}.sha256", folder / "constant" / f"{ARTIFACT}.sha256")
            with (folder / CONTROL).open("a") as file:
                file.write(f'\nlibs ("{Path(self.experiment.couple.library).resolve()}");\n')


def _require_times(times: list[str], case: Path, keys: str) -> None:
    if len(times) < NUM_BLOCKS:
        raise ConfigError(f"{case}: {len(times)} times are too few to score, {NUM_BLOCKS} are needed; see {keys}")


def _seconds_per_step(text: str) -> float | None:
    """Processor time of a step, from OpenFOAM's own clock: the first step, which sets up, is left out."""
    ends = [float(seconds) for seconds in re.findall(r"^ExecutionTime = ([\d.]+) s", text, re.M)]
    return (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else None


def _fallback_share(text: str) -> float | None:
    """Share of the cells that got the classical closure in place of the network; None for other models."""
    found = re.findall(r"hpcsurrogate: of (\S+) cells so far (\S+) got the classical closure", text)
    return float(found[-1][1]) / float(found[-1][0]) if found else None
