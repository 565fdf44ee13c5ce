"""What an artifact says about itself, taken from the experiment and its data.

Legend: b batch (here time), c component, x and y grid axes.
"""

import math

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.atomic import read_json, sha256_file
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.core.metadata import (
    ArtifactMetadata,
    Certificate,
    FieldPort,
    FilterDescription,
    HostDescription,
    ValidityRange,
)
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import digest, provenance
from hpcsurrogate.data.catalogue import FILE_NAME, Catalogue
from hpcsurrogate.physics.filter_widths import filter_widths
from hpcsurrogate.physics.hosts import AnyHost

SNAPSHOTS_AT_ONCE = 16


def describe_artifact(
    experiment: Experiment, paths: RunPaths, host: AnyHost, validity: ValidityRange, residuals: dict[str, float]
) -> ArtifactMetadata:
    """Collect the metadata of the experiment's closure.

    Parameters
    ----------
    experiment : Experiment
    paths : RunPaths               evaluate.json and the prepared catalogue are read
    host : a host                  the experiment's own
    validity : ValidityRange
    residuals : dict               as `measure_residuals` returns them

    Raises
    ------
    DataError    if evaluate.json or the prepared catalogue is missing
    """
    spacing = tuple(float(h) for h in host.grid.spacing)
    widths = filter_widths(experiment.prepare.filter, spacing)
    return ArtifactMetadata(
        name=experiment.name,
        kind="grid",
        inputs=(_port("velocity", host),),
        outputs=(_port(experiment.train.apriori.target, host),),
        dtype="float32",
        # One number for both axes: the width whose square is the area that the filter averages over.
        filter=FilterDescription(kind=experiment.prepare.filter.kind, width=math.sqrt(widths[0] * widths[1])),
        host=HostDescription(
            kind=experiment.host.kind,
            order=getattr(experiment.host, "order", None),
            grid_spacing=spacing,
            time_step=experiment.host.time_step,
        ),
        validity=validity,
        training_data_digest=_data_digest(experiment, paths),
        config_digest=digest(experiment),
        provenance=provenance(),
        certificate=Certificate(residuals=residuals, a_priori=read_json(paths.evaluation)),
    )


def measure_validity(catalogue: Catalogue, realisations: tuple[int, ...], host: AnyHost) -> ValidityRange:
    """Measure the range of inputs in the training data, a few snapshots in memory at a time.

    Parameters
    ----------
    catalogue : Catalogue       of the prepared shards
    realisations : tuple        the training split
    host : a host               its discrete gradient is the one measured

    Returns
    -------
    ValidityRange    velocity magnitude [m/s] and Frobenius norm of its gradient [1/s], both at cell centres

    Raises
    ------
    DataError    if a shard is missing or damaged
    """
    speeds, gradients = [], []
    for realisation in realisations:
        with catalogue.open(realisation) as recorded:
            for start in range(0, recorded.header.num_snapshots, SNAPSHOTS_AT_ONCE):
                snapshots = recorded.read("velocity", start, start + SNAPSHOTS_AT_ONCE)
                velocity = torch.from_numpy(snapshots).to(host.grid.dtype)
                speeds.append(_extremes(host.operators.vector_to_centre(velocity).square().sum(1).sqrt()))
                gradients.append(_extremes(_gradient_magnitude(host, velocity)))
    return ValidityRange(velocity_magnitude=_range(speeds), gradient_magnitude=_range(gradients))


def _data_digest(experiment: Experiment, paths: RunPaths) -> str:
    """SHA-256 of the catalogue of the shards that were trained on; of several filters, the digest of theirs."""
    if "filter_width" not in getattr(experiment.train.model, "scalars", ()):
        return sha256_file(paths.prepared / FILE_NAME)
    numbers = range(len(experiment.prepare.more_filters) + 1)
    return digest([sha256_file(paths.prepared_through(number) / FILE_NAME) for number in numbers])


def _gradient_magnitude(host: AnyHost, velocity_bcxy: Tensor) -> Tensor:
    ux, uy, vx, vy = host.operators.velocity_gradient(velocity_bcxy)
    return (ux.square() + vy.square() + host.operators.to_centre(uy.square() + vx.square())).sqrt()


def _extremes(values: Tensor) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _range(extremes: list[tuple[float, float]]) -> tuple[float, float]:
    lowest, highest = np.array(extremes).T
    return float(lowest.min()), float(highest.max())


def _port(name: str, host: AnyHost) -> FieldPort:
    field = FIELDS[name]
    components = field.components_in(len(host.grid.shape))
    return FieldPort(field=name, unit=field.unit, components=components, layout=host.layout)
