"""What an artifact says about itself, taken from the experiment and its data.

Legend: b batch (here time), c component, x and y grid axes.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.atomic import read_json, sha256_file
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.core.metadata import (
    ArtifactMetadata,
    Certificate,
    FallbackDescription,
    FieldPort,
    FilterDescription,
    HostDescription,
    ValidityRange,
)
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import digest, provenance
from hpcsurrogate.data.catalogue import FILE_NAME, Catalogue
from hpcsurrogate.physics.closures.stress_closure import mean_spacing
from hpcsurrogate.physics.differences import gradient_magnitude, speed
from hpcsurrogate.physics.filter_widths import filter_widths
from hpcsurrogate.physics.hosts import AnyHost

SNAPSHOTS_AT_ONCE = 16


def describe_fallback(experiment: Experiment, host: AnyHost) -> FallbackDescription:
    """Return the classical closure of `export.fallback`; its Delta is the mean grid spacing of the host."""
    fallback = experiment.export.fallback
    return FallbackDescription(kind=fallback.kind, constant=fallback.constant, width=mean_spacing(host.grid))


def describe_artifact(
    experiment: Experiment,
    paths: RunPaths,
    host: AnyHost,
    validity: ValidityRange,
    halo: int | None,
    residuals: dict[str, float],
) -> ArtifactMetadata:
    """Collect the metadata of the experiment's closure of kind `grid`.

    Parameters
    ----------
    experiment : Experiment
    paths : RunPaths               evaluate.json and the prepared catalogue are read
    host : a host                  the experiment's own
    validity : ValidityRange
    halo : int or None             of `halo_of` the network
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
        dtype=experiment.export.dtype,
        # One number for both axes: the width whose square is the area that the filter averages over.
        filter=FilterDescription(kind=experiment.prepare.filter.kind, width=math.sqrt(widths[0] * widths[1])),
        host=HostDescription(
            kind=experiment.host.kind,
            order=getattr(experiment.host, "order", None),
            grid_spacing=spacing,
            time_step=experiment.host.time_step,
        ),
        validity=validity,
        halo=halo,
        fallback=describe_fallback(experiment, host),
        training_data_digest=_data_digest(experiment, paths),
        config_digest=digest(experiment),
        provenance=provenance(),
        certificate=Certificate(residuals=residuals, a_priori=a_priori_scores(paths)),
    )


def a_priori_scores(paths: RunPaths) -> dict[str, Any]:
    """Return evaluate.json with the learned closure's relative error of the force beside the best classical one's.

    Raises
    ------
    DataError    if the file is missing
    """
    evaluation = read_json(paths.evaluation)
    scores = {closure["name"]: closure for closure in evaluation["closures"]}
    classical = [name for name in scores if name not in ("learned", "none")]
    best = min(classical, key=lambda name: scores[name]["relative_error_force"], default=None)
    return evaluation | {"learned": scores.get("learned"), "best_classical": best and scores[best]}


def measure_validity(catalogue: Catalogue, realisations: tuple[int, ...], host: AnyHost) -> ValidityRange:
    """Measure the range of inputs in the training data, a few snapshots in memory at a time.

    Parameters
    ----------
    catalogue : Catalogue       of the prepared shards
    realisations : tuple        the training split
    host : a host               its layout and spacing

    Returns
    -------
    ValidityRange    velocity magnitude [m/s] and Frobenius norm of its gradient [1/s], both at cell centres and by the
                     differences that the guard takes, so that no training data are outside
                     (tests/unit/export/test_stage.py)

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
                staggered = host.layout == "staggered"
                speeds.append(_extremes(speed(velocity, staggered)))
                gradients.append(_extremes(gradient_magnitude(velocity, *host.grid.spacing, staggered)))
    return ValidityRange(velocity_magnitude=_range(speeds), gradient_magnitude=_range(gradients))


def _data_digest(experiment: Experiment, paths: RunPaths) -> str:
    """SHA-256 of the catalogue of the shards that were trained on; of several filters, the digest of theirs."""
    if "filter_width" not in getattr(experiment.train.model, "scalars", ()):
        return sha256_file(paths.prepared / FILE_NAME)
    numbers = range(len(experiment.prepare.more_filters) + 1)
    return digest([sha256_file(paths.prepared_through(number) / FILE_NAME) for number in numbers])


def _extremes(values: Tensor) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _range(extremes: list[tuple[float, float]]) -> tuple[float, float]:
    lowest, highest = np.array(extremes).T
    return float(lowest.min()), float(highest.max())


def _port(name: str, host: AnyHost) -> FieldPort:
    field = FIELDS[name]
    components = field.components_in(len(host.grid.shape))
    return FieldPort(field=name, unit=field.unit, components=components, layout=host.layout)
