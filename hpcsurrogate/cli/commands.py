"""What the commands call: load, call the room, print."""

import importlib.resources
import json
from collections.abc import Sequence
from pathlib import Path

import click

from hpcsurrogate.core.atomic import write_text_atomic
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import ConfigError, DataError, HpcsurrogateError
from hpcsurrogate.core.log import get_logger, setup_logging
from hpcsurrogate.core.yaml_loader import load_experiment

STARTER_NAME = "my-experiment"


def do_stage(name: str, file: str, overrides: Sequence[str], locked: bool, verbose: bool) -> None:
    """Do one stage on the ranks that a launcher started, or alone."""
    from hpcsurrogate.parallel.world import get_world
    from hpcsurrogate.pipeline.consistency import check_consistency
    from hpcsurrogate.pipeline.runner import execute_stage

    world = get_world()
    setup_logging(world.rank, world.size, verbose)
    experiment = None
    if world.rank == 0:
        # Rank 0 reads for all: one error line instead of one a rank, and nobody sees a file that is just being edited.
        experiment = load_experiment(file, overrides)
        check_consistency(experiment)
        if world.size != experiment.ranks and not locked:
            get_logger(name).info("on %d rank(s); `ranks: %d` is for `hpcsurrogate run`", world.size, experiment.ranks)
    experiment: Experiment = world.bcast(experiment)
    execute_stage(name, experiment, world, locked)


def verify_file(file: str, overrides: Sequence[str]) -> None:
    """Check an artifact against its own manifest and golden vectors and print what was measured."""
    from hpcsurrogate.export.stage import verify_artifact

    if overrides:
        raise ConfigError(f"verify: '{overrides[0]}' changes an experiment, but {file} is an artifact")
    if not Path(file).is_file():
        raise ConfigError(f"{file}: file does not exist; give an experiment (.yaml) or an artifact (model.pt)")
    click.echo(json.dumps(verify_artifact(Path(file)), indent=2))


def check_shards(directory: Path, quick: bool) -> None:
    """Print every finding; DataError if there is one."""
    from hpcsurrogate.data.check import check_directory

    findings = check_directory(directory, deep=not quick)
    for finding in findings:
        click.echo(str(finding))
    if findings:
        raise DataError(f"{directory}: {len(findings)} finding(s), listed above; write the damaged files again")
    click.echo(f"{directory}: ok")


def show_data(directory: Path, realisation: int | None, snapshot: int | None) -> None:
    """Print a table of every data directory in a directory."""
    from hpcsurrogate.data.summary import data_directories, describe_directory

    if snapshot is not None:
        raise ConfigError("show: --snapshot chooses what to write; add --vtkhdf FILE")
    click.echo("\n\n".join(describe_directory(found, realisation) for found in data_directories(directory)))


def write_for_paraview(directory: Path, realisation: int | None, snapshot: int | None, file: Path) -> None:
    """Write one or all snapshots of a realisation; ConfigError if it is not clear which realisation is meant."""
    from hpcsurrogate.data.catalogue import Catalogue
    from hpcsurrogate.data.summary import data_directories
    from hpcsurrogate.data.vtkhdf import write_vtkhdf

    if file.suffix != ".vtkhdf":
        raise ConfigError(f"{file}: give it the ending .vtkhdf, by which ParaView knows the format")
    found = data_directories(directory)
    if len(found) > 1:
        raise ConfigError(f"{directory}: several directories hold data; name one of {', '.join(map(str, found))}")
    catalogue = Catalogue.read(found[0])
    if realisation is None and len(catalogue.realisations) > 1:
        raise ConfigError(f"{found[0]}: holds {len(catalogue.realisations)} realisations; choose with --realisation N")
    with catalogue.open(catalogue.realisations[0] if realisation is None else realisation) as reader:
        write_vtkhdf(file, reader, snapshot)
    click.echo(f"{file}: written; open it in ParaView")


def show_diagnosis() -> None:
    """Print one line per part; an error if one of them keeps the program from working."""
    from hpcsurrogate.pipeline.doctor import diagnose

    broken = []
    for finding in diagnose():
        click.echo(f"{finding.status:<8} {finding.part}: {finding.message}")
        if finding.status == "error":
            broken.append(finding.part)
    if broken:
        raise HpcsurrogateError(f"doctor: {', '.join(broken)} cannot be used; the remedy stands in its line")


def write_starter(name: str) -> None:
    """Write NAME.yaml in the working directory; never over a file that is there."""
    name = name.removesuffix(".yaml")
    path = Path(f"{name}.yaml")
    if path.exists():
        raise ConfigError(f"{path}: exists already; take another name or remove it")
    text = importlib.resources.files("hpcsurrogate.cli").joinpath("starter.yaml").read_text(encoding="utf-8")
    write_text_atomic(path, text.replace(STARTER_NAME, path.stem))
    try:
        load_experiment(path)
    except ConfigError:
        path.unlink()
        raise
    click.echo(f"{path}: written; start with `hpcsurrogate run {path}`")
