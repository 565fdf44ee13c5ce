"""Runs of LAMMPS in a channel as samples of a material: one for each slice of the fluid that is away from its ends."""

from pathlib import Path

import numpy as np

from hpcsurrogate.core.config_fluid import ChunkIngest, DumpIngest, SliceIngest
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.fields import AXES, FIELDS
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.data.bin_sources import bin_chunks, bin_dump
from hpcsurrogate.data.bins import Slices, filled_slices, inner_slices
from hpcsurrogate.data.block_average import LONG_ENOUGH, block_average
from hpcsurrogate.data.material import MaterialSample

log = get_logger("ingest")

STRESSES = FIELDS["stress"].components_in(3)
# A slice counts whose rate is so many standard errors from zero: a viscosity fitted to rates so sure comes out too
# small by 1/SURE^2 at most. To choose by the stress would favour slices where it is large by chance.
SURE = 10.0


def samples_of_slices(ingest: ChunkIngest | DumpIngest, units: str, folder: Path) -> list[MaterialSample]:
    """Return the samples of a run in a channel, which left its file in `folder`.

    Parameters
    ----------
    ingest : ChunkIngest or DumpIngest
    units : str                           style of the script
    folder : Path

    Returns
    -------
    list of MaterialSample    along the axis, one at least

    Raises
    ------
    DataError    if the file is missing or damaged, lacks a column, holds too few averages, or no slice of it moves
    """
    path, axis = folder / ingest.file, AXES.index(ingest.axis)
    if isinstance(ingest, ChunkIngest):
        slices = bin_chunks(path, axis, units, ingest.stress)
    else:
        slices = bin_dump(path, axis, ingest.width, units, ingest.virial, ingest.masses)
    try:
        fluid = slices.at(filled_slices(slices.number.mean(0)))
        inner = inner_slices(fluid.centres, ingest.wall_layer) if len(fluid.centres) > 1 else np.zeros(1, bool)
        if inner.sum() < 3:
            raise ValueError(
                f"{inner.sum()} slices are further than ingest.wall_layer from the ends of the fluid, 3 needed"
            )
        blocks = fluid.at(inner).blocks(ingest.blocks, ingest.discard)
    except ValueError as error:
        raise DataError(f"{path}: {error}; take narrower slices, write more of them, or lower ingest.blocks") from None
    _warn_of_short_blocks(path, fluid.at(inner), ingest)
    return _samples(path, blocks, AXES.index(ingest.flow))


def _samples(path: Path, blocks: Slices, flow: int) -> list[MaterialSample]:
    """Of every slice but the outermost, which only lend their velocity to the gradient of the next.

    A law is fitted to stresses at gradients that are taken for exact. So the error of the shear stress is that of
    stress minus viscosity times gradient, with the viscosity of the slice itself: their errors are correlated.
    """
    shear = STRESSES.index("".join(sorted(AXES[flow] + AXES[blocks.axis])))
    fields, errors = blocks.fields(), blocks.estimate(lambda found: found.stress)[1]
    rates, rate_errors = blocks.estimate(lambda found: found.gradient()[:, flow])
    with np.errstate(invalid="ignore"):
        sure = np.abs(rates) > SURE * rate_errors
        viscosity = fields.stress[:, shear] / rates
    errors[:, shear] = blocks.estimate(lambda found: found.stress[:, shear] - viscosity * found.gradient()[:, flow])[1]
    if left_out := int((~sure).sum()) - 2:
        log.info("%s: %d slices left out, whose rate is less than %g errors", path, left_out, SURE)
    if not sure.any():
        raise DataError(f"{path}: no slice has a rate of {SURE:g} of its errors; run longer or drive the flow harder")
    samples = []
    for row in np.flatnonzero(sure):
        gradient = np.zeros((3, 3))
        gradient[flow, blocks.axis] = rates[row]
        samples.append(
            MaterialSample(
                float(fields.density[row]),
                float(fields.temperature[row]),
                gradient.ravel(),
                fields.stress[row],
                errors[row],
            )
        )
    return samples


def _warn_of_short_blocks(path: Path, slices: Slices, ingest: SliceIngest) -> None:
    # The flow is slower than the stress: it takes the time that momentum needs to cross the channel.
    both = np.concatenate([slices.stress, slices.momentum], axis=2)[int(ingest.discard * len(slices.stress)) :]
    found = block_average(both.reshape(len(both), -1), ingest.blocks)
    if not found.is_sure:
        log.warning(
            "%s: a block of %d averages is shorter than %d correlation times (%.1f averages): errors are too small;"
            " run longer, or lower ingest.blocks",
            path, found.block_length, LONG_ENOUGH, found.correlation_time.max(),
        )  # fmt: skip
