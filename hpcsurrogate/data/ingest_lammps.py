"""Runs of LAMMPS as samples of a material: every rank reads its share of the runs, rank 0 writes material.hdf5.

A run of homogeneous shear is one sample: means over the rows of its `fix ave/time` without the start, and for the
stress the standard error of the mean from averages of blocks. A run in a channel has several: ingest_slices.py.
"""

from pathlib import Path

import numpy as np

import hpcsurrogate
from hpcsurrogate.core.config_fluid import FluidExperiment, LammpsIngest, ShearIngest
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.data.block_average import LONG_ENOUGH, block_average
from hpcsurrogate.data.ingest_slices import samples_of_slices
from hpcsurrogate.data.material import MaterialFile, MaterialSample, MaterialSamples, write_material
from hpcsurrogate.parallel.world import World
from hpcsurrogate.sources.lammps_averages import Averages, read_averages
from hpcsurrogate.sources.lammps_runs import LammpsRun, finished_runs

log = get_logger("ingest")

COMPONENTS = ("xx", "xy", "xz", "yx", "yy", "yz", "zx", "zy", "zz")


def run_ingest(experiment: FluidExperiment, paths: RunPaths, world: World) -> MaterialSamples:
    """Write the samples of all finished runs.

    Parameters
    ----------
    experiment : FluidExperiment
    paths : RunPaths
    world : World    its ranks share the runs; all must call this

    Returns
    -------
    MaterialSamples    in the order of the runs' names, on every rank

    Raises
    ------
    DataError      if no run is finished, or a file of one is missing or damaged
    ConfigError    if `ingest` names what a run does not have, or holds out a state that no run has

    Notes
    -----
    The samples are the same for any number of ranks (tests/parallel/test_law_ranks.py).
    """
    runs = sorted(finished_runs(experiment, paths.sweep), key=lambda run: run.name)
    if not runs:
        raise DataError(f"{paths.sweep}: holds no finished run of the plan; run `hpcsurrogate simulate` first")
    states, held_out = state_numbers(experiment, runs), _held_out(experiment.ingest, runs)
    of_runs = world.map(lambda run: samples_of_run(experiment, run, paths.sweep / run.name), runs)
    rows = [sample for of_one in of_runs for sample in of_one]
    of_run = [index for index, of_one in enumerate(of_runs) for _ in of_one]
    samples = MaterialSamples(
        np.array([row.density for row in rows]),
        np.array([row.temperature for row in rows]),
        np.stack([row.velocity_gradient for row in rows]),
        np.stack([row.stress for row in rows]),
        np.stack([row.stress_error for row in rows]),
        states[of_run],
        held_out[of_run],
    )
    with world.failing_together():
        if world.rank == 0:
            names = tuple(runs[index].name for index in of_run)
            configuration = digest([hpcsurrogate.__version__, experiment.ingest.model_dump(mode="json"), names])
            write_material(paths.material, samples, MaterialFile(experiment.simulate.units, names, configuration))
            log.info(
                "%d samples of %d runs and %d states, %d runs held out, written to %s",
                len(rows), len(runs), len(set(states)), held_out.sum(), paths.material,
            )  # fmt: skip
    return samples


def samples_of_run(experiment: FluidExperiment, run: LammpsRun, folder: Path) -> list[MaterialSample]:
    """Return the samples of a run, which left its files in `folder`; raises as the functions for each kind."""
    if isinstance(experiment.ingest, ShearIngest):
        return [sample_of_shear(experiment.ingest, run, folder)]
    return samples_of_slices(experiment.ingest, experiment.simulate.units, folder)


def sample_of_shear(ingest: ShearIngest, run: LammpsRun, folder: Path) -> MaterialSample:
    """Return the sample of a run of homogeneous shear.

    Raises
    ------
    DataError      if the file of averages is missing or damaged, or holds too few rows
    ConfigError    if it has not the columns, nor the run the variables, that `ingest` names

    Notes
    -----
    The stress is minus the pressure tensor; a mean of an autoregressive series comes back within its error
    (tests/unit/data/test_block_average.py).
    """
    averages = read_averages(folder / ingest.averages)
    kept = slice(int(ingest.discard * len(averages.steps)), None)
    pressure = np.stack([_column(averages, name, "pressure")[kept] for name in ingest.pressure], axis=1)
    try:
        blocks = block_average(pressure, ingest.blocks)
    except ValueError as error:
        raise DataError(
            f"{averages.path}: {error} after the first {ingest.discard:.0%} are left out; write more rows, or lower"
            " ingest.blocks"
        ) from None
    if not blocks.is_sure:
        log.warning(
            "%s: a block of %d rows is shorter than %d correlation times (%.1f rows): the errors of its means come out"
            " too small; run longer, or lower ingest.blocks",
            averages.path, blocks.block_length, LONG_ENOUGH, blocks.correlation_time.max(),
        )  # fmt: skip
    gradient = np.zeros(9)
    for component, name in ingest.gradient.items():
        gradient[COMPONENTS.index(component)] = _mean(averages, run, name, kept, f"gradient.{component}")
    density = _mean(averages, run, ingest.density, kept, "density")
    temperature = _mean(averages, run, ingest.temperature, kept, "temperature")
    for name, value in (("density", density), ("temperature", temperature)):
        if value <= 0:
            raise DataError(
                f"{averages.path}: {name} is {value:g}, not above zero; correct ingest.{name} or the script"
            )
    return MaterialSample(density, temperature, gradient, -blocks.mean, blocks.error)


def state_numbers(experiment: FluidExperiment, runs: list[LammpsRun]) -> np.ndarray:
    """Number the states: runs are of the same one if all variables that stand in a `grid` are equal.

    Returns
    -------
    ndarray, shape (runs,), int64    from 0 on, in the order in which states first appear
    """
    names = sorted({name for sweep in (experiment.simulate, *experiment.simulate.more) for name in sweep.grid})
    numbers: dict[tuple, int] = {}
    found = [tuple(run.variables.get(name) for name in names) for run in runs]
    return np.array([numbers.setdefault(state, len(numbers)) for state in found], dtype=np.int64)


def _held_out(ingest: LammpsIngest, runs: list[LammpsRun]) -> np.ndarray:
    held_out = np.zeros(len(runs), dtype=bool)
    for state in ingest.held_out:
        matches = np.array([all(_is(run.variables.get(name), value) for name, value in state.items()) for run in runs])
        if not matches.any():
            wanted = ", ".join(f"{name} {value:g}" for name, value in state.items())
            raise ConfigError(f"ingest.held_out: no finished run has {wanted}; add it to simulate, or correct it")
        held_out |= matches
    return held_out


def _is(found: float | str | None, value: float) -> bool:
    return isinstance(found, int | float) and bool(np.isclose(found, value, rtol=1e-9, atol=0))


def _mean(averages: Averages, run: LammpsRun, name: str, kept: slice, key: str) -> float:
    """Of a column, or else the value of a variable."""
    if not averages.has(name) and name in run.variables:
        value = run.variables[name]
        if not isinstance(value, int | float):
            raise ConfigError(f"ingest.{key}: variable {name} of run {run.name} is {value}, no number")
        return float(value)
    return float(_column(averages, name, key)[kept].mean())


def _column(averages: Averages, name: str, key: str) -> np.ndarray:
    if not averages.has(name):
        raise ConfigError(
            f"ingest.{key}: {name} is no column of {averages.path} ({' '.join(averages.names)}), nor a variable of the"
            " run; correct it"
        )
    return averages.column(name)
