"""The commands for closures of single cells: `ingest openfoam` and `fit`."""

import shlex
from collections.abc import Sequence
from contextlib import nullcontext

import click

from hpcsurrogate.cli.commands import leaving_on_request, require_same_command
from hpcsurrogate.core.log import setup_logging
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import load_cell_experiment
from hpcsurrogate.pipeline.lock import run_lock


def ingest_cells(file: str, overrides: Sequence[str], verbose: bool) -> None:
    """Write the samples of every time, on the ranks that a launcher started, or alone."""
    from hpcsurrogate.data.ingest_openfoam import run_ingest
    from hpcsurrogate.parallel.world import get_world

    world = get_world()
    setup_logging(world.rank, world.size, verbose)
    require_same_command(world, shlex.join(("ingest openfoam", file, *overrides)))
    experiment = world.bcast(load_cell_experiment(file, overrides) if world.rank == 0 else None)
    paths = RunPaths(experiment.run_dir)
    with run_lock(paths) if world.rank == 0 else nullcontext(), leaving_on_request("ingest", world):
        catalogue = run_ingest(experiment, paths.cells, world)
    if world.rank == 0:
        cells = sum(of_time.num_cells for of_time in catalogue.files)
        click.echo(
            f"{paths.cells}: {cells} cells of {len(catalogue.files)} times; go on with `hpcsurrogate fit {file}`"
        )


def fit_cells(file: str, overrides: Sequence[str], verbose: bool) -> None:
    """Train, write the artifact and print how well it does beside classical closures."""
    from hpcsurrogate.pipeline.cells import run_fit

    setup_logging(verbose=verbose)
    experiment = load_cell_experiment(file, overrides)
    paths = RunPaths(experiment.run_dir)
    with run_lock(paths):
        errors = run_fit(experiment, paths)["errors"]
    for name, error in errors.items():
        click.echo(f"{name:<12} relative error of the stress {error:.3f}")
    click.echo(f"{paths.pointwise}: written")
