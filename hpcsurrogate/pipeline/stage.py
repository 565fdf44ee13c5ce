"""What a stage is, for every kind of experiment.

Every stage depends on the one before it, so a stage need only name the sections that enter with it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.section import Section
from hpcsurrogate.parallel.world import World

Work = Callable[[Any, RunPaths, World], None]


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes
    ----------
    name : str               name of the subcommand
    summary : str            one line for people
    sections : tuple of str  fields of the experiment that change its result
    outputs : tuple of str   properties of RunPaths; a folder stands for all files in it
    work : callable          (experiment, paths, world) -> None
    on_ranks : bool          `run` starts it on the experiment's number of ranks
    fresh_process : bool     `run` starts it in a process of its own
    progress : tuple of str  properties of RunPaths from which an interrupted attempt goes on
    optional : tuple of str  outputs that it writes for some experiments only
    idle_without : str       a section that may be empty; then there is next to nothing to do
    inputs : callable        (experiment) -> JSON types: what else decides the result, such as files of the user
    back_to : str            name of a stage before it, which it may have given new work: `run` then goes on there
    words : tuple of str     of the command that does it, if that is not its name
    """

    name: str
    summary: str
    sections: tuple[str, ...]
    outputs: tuple[str, ...]
    work: Work
    on_ranks: bool = False
    fresh_process: bool = False
    progress: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    idle_without: str | None = None
    inputs: Callable[[Any], Any] | None = None
    back_to: str | None = None
    words: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """Words of the command that does it."""
        return self.words or (self.name,)

    def is_idle(self, experiment: Section) -> bool:
        """Whether the experiment gives it next to nothing to do."""
        return self.idle_without is not None and not getattr(experiment, self.idle_without)

    def output_files(self, paths: RunPaths) -> list[Path]:
        """Return the files there are now under the stage's outputs, sorted; a missing file is simply not among them.

        What is hidden, or lies in a hidden folder, is a stage's own business.
        """
        files: list[Path] = []
        for name in self.outputs + self.optional:
            path: Path = getattr(paths, name)
            found = path.rglob("*") if path.is_dir() else [path]
            files += [file for file in found if file.is_file() and not _is_hidden(file.relative_to(path))]
        return sorted(files)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def state_of_files(files: Iterable[str | Path]) -> list[Any]:
    """Size and modification time of the user's own files: reading terabytes to see that nothing changed is no check."""
    state: list[Any] = []
    for file in map(Path, files):
        status = file.stat() if file.exists() else None
        state.append([str(file), status and status.st_size, status and status.st_mtime_ns])
    return state
