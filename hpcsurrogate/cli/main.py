"""The command `hpcsurrogate`. Rooms are imported inside the commands, so that a help text answers at once."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import hpcsurrogate
from hpcsurrogate.cli import exit as exiting
from hpcsurrogate.cli.arguments import EXPERIMENT, LOCKED, OVERRIDES, Invocation, Part
from hpcsurrogate.cli.jobs import scaling, status, submit, tune
from hpcsurrogate.core.memory import keep_freed_memory


class OrderedGroup(click.Group):
    """Lists its commands in the order the data walks, not by the alphabet."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=OrderedGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(hpcsurrogate.__version__, prog_name="hpcsurrogate")
@click.option("--verbose", is_flag=True, help="Print debug lines too.")
@click.pass_context
def command_line(context: click.Context, verbose: bool) -> None:
    """Train closures from fine-scale simulation and run them inside coarse solvers.

    FILE is an experiment (YAML); any of its values can be changed after it: `train.apriori.epochs=5`. `hpcsurrogate
    new NAME` writes a starter, `hpcsurrogate run FILE` does everything; every stage is also a command of its own and
    can be started under mpirun or srun. Your own fine data are ingested by the stage simulate: `simulate.kind: well`,
    with your names of files and fields. Fine runs of OpenFOAM and sweeps of LAMMPS runs have files of their own, with
    the stages ingest, fit, ... (docs/openfoam.md, docs/lammps.md).
    """
    context.obj = Invocation(verbose, is_own_process=bool(context.obj))


@command_line.command()
@EXPERIMENT
@OVERRIDES
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--from", "start", metavar="STAGE", help="Do this stage and all after it again.")
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.pass_obj
def run(
    invocation: Invocation,
    file: str,
    overrides: tuple[str, ...],
    dry_run: bool,
    start: str | None,
    until: str | None,
) -> None:
    """Walk all stages; those that are up to date are skipped."""
    from hpcsurrogate.core.log import setup_logging
    from hpcsurrogate.pipeline.runner import run_pipeline

    setup_logging(verbose=invocation.verbose)
    run_pipeline(file, overrides, start, until, dry_run, say=click.echo)


def _add_stage(name: str, summary: str, kind: str | None = None) -> None:
    """Add the command NAME, or of a stage that differs from one kind of file to another the command NAME KIND."""
    group = command_line if kind is None else command_line.commands[name]

    @group.command(kind or name, help=f"Stage: {summary}.", short_help=summary)
    @EXPERIMENT
    @OVERRIDES
    @LOCKED
    @click.pass_obj
    def command(invocation: Invocation, file: str, overrides: tuple[str, ...], locked: bool) -> None:
        invocation.guard(locked)
        from hpcsurrogate.cli.commands import do_stage

        do_stage(name, file, overrides, locked, invocation.verbose, kind)


# The names again: importing pipeline.stages would load pydantic for a help text (tests/unit/cli/test_main.py compares).
@command_line.command(short_help="record fine data, or ingest your own")
@EXPERIMENT
@OVERRIDES
@LOCKED
@click.option("--part", metavar="I/N", type=Part(), help="The I-th of N parts of a sweep of LAMMPS runs, from 1 on.")
@click.pass_obj
def simulate(
    invocation: Invocation, file: str, overrides: tuple[str, ...], locked: bool, part: tuple[int, int] | None
) -> None:
    """Stage: record fine data, or ingest your own.

    Of a file whose simulate.kind is lammps: do the runs of its sweep that are missing. Parts of them can be done beside
    each other, by the jobs of an array; then once more without --part.
    """
    invocation.guard(locked)
    from hpcsurrogate.cli.commands import do_stage

    do_stage("simulate", file, overrides, locked, invocation.verbose, part=part)


_add_stage("prepare", "filter the fine data to pairs on the coarse grid")
_add_stage("train", "train the closure on the pairs, then through the host")
_add_stage("evaluate", "score the closure on filtered fine data (a-priori)")
_add_stage("export", "write the TorchScript artifact")


@command_line.command(short_help="load the artifact in a fresh process and compare")
@click.argument("file", metavar="FILE|ARTIFACT")
@OVERRIDES
@LOCKED
@click.option("--allow-compiled", is_flag=True, help="ARTIFACT may be a .pt2, which holds native code that is run.")
@click.pass_obj
def verify(invocation: Invocation, file: str, overrides: tuple[str, ...], locked: bool, allow_compiled: bool) -> None:
    """Stage: load the artifact in a fresh process and compare.

    Given an experiment, the artifact is compared with the trained network; given an artifact (model.pt) alone, with its
    own manifest and golden vectors.
    """
    invocation.guard(locked)
    from hpcsurrogate.cli.commands import do_stage, verify_file

    if Path(file).suffix in (".yaml", ".yml"):
        do_stage("verify", file, overrides, locked, invocation.verbose)
    else:
        verify_file(file, overrides, allow_compiled)


_add_stage("couple", "run the closure inside the coarse solver (a-posteriori)")
_add_stage("generalise", "run all contenders on flows that training never saw")
_add_stage("certify", "write the artifact again with the verdict in its certificate")
_add_stage("report", "plots, tables and one HTML page with the verdict")


@command_line.group()
def ingest() -> None:
    """Stage: make samples from runs of other codes."""


_add_stage("ingest", "average a fine run of OpenFOAM onto a coarser mesh (docs/openfoam.md)", "openfoam")
_add_stage("ingest", "average the runs of a sweep to samples of a law (docs/lammps.md)", "lammps")
_add_stage("fit", "train on the samples of ingest and score what was learned")
_add_stage("calibrate", "weigh the parts of a closure of cells in coarse runs of OpenFOAM (docs/openfoam.md)")
_add_stage("propose", "say which LAMMPS runs a law would gain most from (docs/lammps.md)")


for _command in (submit, status, tune, scaling):
    command_line.add_command(_command)


@command_line.command()
@click.argument("directory", metavar="DIR")
@click.option("--quick", is_flag=True, help="Sizes and headers only; else every chunk is read and hashed.")
def check(directory: str, quick: bool) -> None:
    """Check shards: DIR is a run directory, or a folder with a catalogue."""
    from hpcsurrogate.cli.commands import check_shards

    check_shards(Path(directory), quick)


@command_line.command()
@click.argument("artifact", metavar="ARTIFACT", type=click.Path(path_type=Path))
def inspect(artifact: Path) -> None:
    """Print what an artifact is, for which host and range, and what was measured on it; its network is not loaded."""
    from hpcsurrogate.cli.commands import inspect_file

    inspect_file(artifact)


@command_line.command("show")
@click.argument("directory", metavar="DIR")
@click.option("--realisation", metavar="N", type=int, help="This one alone; else all.")
@click.option("--snapshot", metavar="I", type=int, help="Write this one alone; -1 is the last.")
@click.option("--vtkhdf", metavar="FILE", type=click.Path(path_type=Path), help="Write FILE.vtkhdf for ParaView.")
def show_directory(directory: str, realisation: int | None, snapshot: int | None, vtkhdf: Path | None) -> None:
    """Print what DIR holds, or write it for ParaView.

    DIR is a run directory, or a folder with a catalogue. With --vtkhdf all fields of a realisation are written, every
    snapshot a time step. Components that lie on the faces of staggered cells are written at the cells' centres.
    """
    from hpcsurrogate.cli.commands import show_data, write_for_paraview

    if vtkhdf is None:
        show_data(Path(directory), realisation, snapshot)
    else:
        write_for_paraview(Path(directory), realisation, snapshot, vtkhdf)


@command_line.command()
def doctor() -> None:
    """Check MPI, Horovod, torch, HDF5, compiler, GPU and SLURM; each line is ok, a warning, or a remedy."""
    from hpcsurrogate.cli.commands import show_diagnosis

    show_diagnosis()


@command_line.command("cmake-dir")
def cmake_dir() -> None:
    """Print where CMake finds the native library: cmake -DCMAKE_PREFIX_PATH="$(hpcsurrogate cmake-dir)" ..."""
    from hpcsurrogate.embed.cmake_dir import cmake_dir

    click.echo(cmake_dir())


@command_line.command()
@click.argument("name")
def new(name: str) -> None:
    """Write NAME.yaml, a commented experiment to start from."""
    from hpcsurrogate.cli.commands import write_starter

    write_starter(name)


@command_line.group()
def config() -> None:
    """Look at the configuration."""


@config.command()
def schema() -> None:
    """Print the JSON Schema of an experiment, by which editors complete the file."""
    import json

    from hpcsurrogate.core.config import Experiment

    click.echo(json.dumps(Experiment.model_json_schema(), indent=2))


@config.command()
@EXPERIMENT
@OVERRIDES
def show(file: str, overrides: tuple[str, ...]) -> None:
    """Print the experiment as it will be used, every default written out."""
    from hpcsurrogate.core.yaml_loader import dump_experiment, load_any

    click.echo(dump_experiment(load_any(file, overrides)), nl=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: run a command and leave with the exit code of docs/architecture.md, "Exit codes"."""
    keep_freed_memory()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell's `>&-`; the next file opened would take its number
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  as long as the process
    try:
        # Called without arguments, by the console script or `python -m`, this is all that the process does.
        command_line.main(args=arguments, prog_name="hpcsurrogate", standalone_mode=False, obj=arguments is None)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except SystemExit as left:
        _end_others(left)
        raise
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(exiting.ConfigError.exit_code)
    except BrokenPipeError:
        # The reader, such as `head`, has had enough; Python must not try to flush to it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(exiting.FAULT)
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(_leave(error))


def _leave(error: BaseException) -> int:
    """Report the error and, under several ranks, end the others at once: they may wait for this one in a collective."""
    world = _world_if_used()
    rank, size = (world.rank, world.size) if world else (0, 1)
    if rank:
        # When all ranks fail alike, rank 0 says it once and ends the others while they wait here.
        time.sleep(1.0)
    exit_code = exiting.report_error(error, rank, size)
    if world and world.size > 1:
        sys.stdout.flush()
        world.abort(exit_code)
    return exit_code


def _end_others(left: SystemExit) -> None:
    """Under several ranks, end the others with the exit code of this one before a clean-up of libraries can hang."""
    exit_code = left.code if isinstance(left.code, int) else int(left.code is not None)
    world = _world_if_used()
    if exit_code and world and world.size > 1:
        click.echo(f"hpcsurrogate: error: rank {world.rank}: left with exit code {exit_code}", err=True)
        sys.stdout.flush()
        world.abort(exit_code)


def _world_if_used() -> Any:
    """The world if this command asked for it; asking now would be a collective call that the others do not make."""
    module = sys.modules.get("hpcsurrogate.parallel.world")
    if module is None or module.get_world.cache_info().currsize == 0:
        return None
    return module.get_world()
