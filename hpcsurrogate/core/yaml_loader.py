"""Read an experiment file strictly, apply overrides from the command line, and write a resolved one back."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from hpcsurrogate.core import config_messages
from hpcsurrogate.core.config import Experiment, WellSource
from hpcsurrogate.core.config_cells import CellExperiment
from hpcsurrogate.core.config_fluid import FluidExperiment
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.section import Section
from hpcsurrogate.core.yaml_tree import MarkedTree, read_tree

File = TypeVar("File", bound=Section)
AnyExperiment = Experiment | CellExperiment | FluidExperiment


def load_any(path: str | Path, overrides: Sequence[str] = ()) -> AnyExperiment:
    """Read an experiment of any kind, which `simulate.kind` tells apart; in every way as `load_experiment`.

    Returns
    -------
    CellExperiment if the kind is openfoam, FluidExperiment if it is lammps, else Experiment

    Raises
    ------
    ConfigError    as `load_experiment`
    """
    content = _tree_of(path, overrides).content
    source = content.get("simulate")
    kind = source.get("kind") if isinstance(source, dict) else None
    loaders = {"openfoam": load_cell_experiment, "lammps": load_fluid_experiment}
    # A kind may be of any type here; the validation says what is wrong with it.
    return loaders.get(str(kind), load_experiment)(path, overrides)


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read one experiment file.

    Parameters
    ----------
    path : str or Path          YAML file in UTF-8
    overrides : sequence of str `section.key=value`, applied in order; the value is YAML, list items count from 0

    Returns
    -------
    Experiment    frozen; paths of `simulate.files` are made absolute, counted from the folder of the file

    Raises
    ------
    ConfigError    one line `file:line:column: key: what` if the file is missing, empty, not strict YAML, or asks for
                   something that does not exist
    """
    experiment = _validated(path, overrides, Experiment)
    return _with_absolute_files(experiment, Path(path))


def load_cell_experiment(path: str | Path, overrides: Sequence[str] = ()) -> CellExperiment:
    """Read the file of a closure for single cells, in every way as `load_experiment`.

    Returns
    -------
    CellExperiment    frozen; folders of cases and the library are made absolute, counted from the file's folder

    Raises
    ------
    ConfigError    as `load_experiment`
    """
    experiment = _validated(path, overrides, CellExperiment)
    folder = Path(path).resolve().parent
    moved = {
        "simulate": _moved(experiment.simulate, "case", folder),
        "prepare": _moved(experiment.prepare, "coarse", folder),
    }
    if experiment.couple is not None:
        moved["couple"] = _moved(experiment.couple, "library", folder)
    return experiment.model_copy(update=moved)


def load_fluid_experiment(path: str | Path, overrides: Sequence[str] = ()) -> FluidExperiment:
    """Read the file of a constitutive law, in every way as `load_experiment`.

    Returns
    -------
    FluidExperiment    frozen; paths in it are made absolute, counted from the folder of the file

    Raises
    ------
    ConfigError    as `load_experiment`
    """
    experiment = _validated(path, overrides, FluidExperiment)
    folder = Path(path).resolve().parent
    moved = {"simulate": _moved(experiment.simulate, "script", folder)}
    if experiment.couple is not None:
        moved["couple"] = _moved(experiment.couple, "script", folder)
    if experiment.train.initialise_from is not None:
        moved["train"] = _moved(experiment.train, "initialise_from", folder)
    return experiment.model_copy(update=moved)


def _moved(section: File, key: str, folder: Path) -> File:
    return section.model_copy(update={key: str(folder / getattr(section, key))})


def _validated(path: str | Path, overrides: Sequence[str], model: type[File]) -> File:
    tree = _tree_of(path, overrides)
    try:
        # JSON mode is what lets a list fill a tuple while all other types stay strict.
        return model.model_validate_json(json.dumps(tree.content))
    except ValidationError as error:
        raise ConfigError(config_messages.first_problem(error, tree, model)) from None


def _tree_of(path: str | Path, overrides: Sequence[str]) -> MarkedTree:
    tree = read_tree(_read_text(Path(path)), str(path))
    if tree.content is None:
        raise ConfigError(f"{path}: file is empty; `hpcsurrogate new NAME` writes a starter")
    if not isinstance(tree.content, dict):
        raise ConfigError(f"{tree.place(())}: must be a mapping of sections (name: ..., flow: ..., host: ...)")
    for override in overrides:
        _apply_override(tree, override)
    return tree


def dump_experiment(experiment: AnyExperiment) -> str:
    """Return the resolved experiment as YAML, every default written out; `load_any` reads it back equal."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: file does not exist; `hpcsurrogate new NAME` writes a starter") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _apply_override(tree: MarkedTree, override: str) -> None:
    """Set one value in the tree. Sections on the way are made when missing; the validation then judges the names."""
    place = f"override '{override}'"
    dotted, equals, text = override.partition("=")
    keys = dotted.split(".")
    if not equals or not all(keys):
        raise ConfigError(f"{place}: is no section.key=value")
    value = read_tree(text, place).content
    here: Any = tree.content
    path: tuple[str | int, ...] = ()
    for position, key in enumerate(keys):
        step = _step_into(here, key, place)
        path = (*path, step)
        if position == len(keys) - 1:
            here[step] = value
        elif isinstance(here, dict) and here.get(step) is None:
            here[step] = {}
        here = here[step]
    for known in [known for known in tree.places if known[: len(path)] == path]:
        del tree.places[known]
    tree.places[path] = place


def _step_into(here: Any, key: str, place: str) -> str | int:
    if isinstance(here, dict):
        return key
    if isinstance(here, list):
        if not key.isdigit() or int(key) >= len(here):
            raise ConfigError(f"{place}: '{key}' is no item of a list of {len(here)}; items count from 0")
        return int(key)
    raise ConfigError(f"{place}: nothing can stand below a value; '{key}' asks for it")


def _with_absolute_files(experiment: Experiment, path: Path) -> Experiment:
    source = experiment.simulate
    if not isinstance(source, WellSource):
        return experiment
    folder = path.resolve().parent
    files = tuple(str(folder / file) for file in source.files)
    return experiment.model_copy(update={"simulate": source.model_copy(update={"files": files})})
