"""What the commands call: load, call the room, print."""

import importlib.resources
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from hpcsurrogate.cli.exit import report_error
from hpcsurrogate.core.atomic import write_text_atomic
from hpcsurrogate.core.errors import ConfigError, DataError, HpcsurrogateError, RequeueRequested
from hpcsurrogate.core.log import get_logger, setup_logging
from hpcsurrogate.core.yaml_loader import AnyExperiment, load_any, load_experiment

if TYPE_CHECKING:
    from hpcsurrogate.parallel.world import World

STARTER_NAME = "my-experiment"
# What they have finished is kept, so that a batch system may stop them at any time. While steps are done, train takes
# the signals itself and writes a checkpoint first.
STOPPED_AT_ONCE = ("simulate", "prepare", "train", "ingest")


def do_stage(
    name: str,
    file: str,
    overrides: Sequence[str],
    locked: bool,
    verbose: bool,
    kind: str | None = None,
    part: tuple[int, int] | None = None,
) -> None:
    """Do one stage on the ranks that a launcher started, or alone; a part of it where it has parts.

    Raises
    ------
    ConfigError    if the file's simulate.kind is another than `kind`, or its kind has no such stage
    """
    from hpcsurrogate.parallel.world import get_world
    from hpcsurrogate.pipeline.consistency import check_consistency
    from hpcsurrogate.pipeline.runner import execute_part, execute_stage

    world = get_world()
    setup_logging(world.rank, world.size, verbose)
    require_same_command(world, shlex.join((name, file, *overrides)))
    experiment = None
    if world.rank == 0:
        # Rank 0 reads for all: one error line instead of one a rank, and nobody sees a file that is just being edited.
        experiment = load_any(file, overrides)
        if kind is not None and experiment.simulate.kind != kind:
            raise ConfigError(f"{file}: simulate.kind is {experiment.simulate.kind}, but the command is for {kind}")
        check_consistency(experiment)
        if world.size != experiment.ranks and not locked:
            get_logger(name).info("on %d rank(s); `ranks: %d` is for `hpcsurrogate run`", world.size, experiment.ranks)
    experiment: AnyExperiment = world.bcast(experiment)
    with leaving_on_request(name, world) if name in STOPPED_AT_ONCE else nullcontext():
        if part is None:
            execute_stage(name, experiment, world, locked)
        else:
            execute_part(experiment, world, part)


def require_same_command(world: "World", command: str) -> None:
    """Compare what the ranks were started with; collective.

    Raises
    ------
    ConfigError    on every rank, if it is not the same on all
    """
    commands = world.allgather(command)
    for rank, other in enumerate(commands):
        if other != commands[0]:
            raise ConfigError(
                f"rank {rank} was started with `hpcsurrogate {other}`, rank 0 with `hpcsurrogate {commands[0]}`; "
                "start all ranks with one command line"
            )


@contextmanager
def leaving_on_request(name: str, world: "World") -> Iterator[None]:
    """A block during which SIGUSR1 ends all ranks at once with exit code 75.

    No exception is raised through the block: libraries that call Python back, such as torch, may swallow it. Nor does
    SIGTERM do the same: a launcher sends that to ranks that it ends because another one failed.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        if world.rank:
            time.sleep(1.0)  # rank 0 says it for all
        line = f"{name} stopped on request; what is finished is kept, run the same command to go on"
        exit_code = report_error(RequeueRequested(line), world.rank, world.size)
        sys.stdout.flush()
        world.abort(exit_code)
        os._exit(exit_code)

    previous = signal.signal(signal.SIGUSR1, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, previous)


def verify_file(file: str, overrides: Sequence[str], allow_compiled: bool = False) -> None:
    """Check an artifact against its own manifest and golden vectors and print what was measured."""
    from hpcsurrogate.export.verify import verification_lines, verify_artifact

    if overrides:
        raise ConfigError(f"verify: '{overrides[0]}' changes an experiment, but {file} is an artifact")
    if not Path(file).is_file():
        raise ConfigError(f"{file}: file does not exist; give an experiment (.yaml) or an artifact (model.pt)")
    click.echo("\n".join(verification_lines(verify_artifact(Path(file), allow_compiled))))


def inspect_file(file: Path) -> None:
    """Print what an artifact is and what was measured on it."""
    from hpcsurrogate.embed.card import inspect_artifact

    click.echo(inspect_artifact(file), nl=False)


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
