"""What an artifact says about itself, taken from the experiment and its data.

Legend: b batch (here time), c component, x, y and z grid axes.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.atomic import read_json, sha256_file
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import DataError
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
from hpcsurrogate.evaluate.apriori import ERROR_OF_TARGET
from hpcsurrogate.physics.differences import gradient_magnitude, speed
from hpcsurrogate.physics.filter_widths import filter_widths
from hpcsurrogate.physics.hosts import AnyHost

SNAPSHOTS_AT_ONCE = 16


def filter_width(experiment: Experiment, host: AnyHost) -> float:
    """Return one number for all axes [m]: the side of the square or cube as large as what the filter averages over."""
    widths = filter_widths(experiment.prepare.filter, host.grid.spacing)
    return math.prod(widths) ** (1 / len(widths))


def describe_fallback(experiment: Experiment, host: AnyHost) -> FallbackDescription:
    """Return the classical closure of `export.fallback`; Delta is the width of the filter, whose stress it models."""
    fallback = experiment.export.fallback
    width = filter_width(experiment, host)
    return FallbackDescription(kind=fallback.kind, constant=fallback.constant, width=width)


def describe_artifact(
    experiment: Experiment,
    paths: RunPaths,
    host: AnyHost,
    validity: ValidityRange,
    halo: int | None,
    residuals: dict[str, float],
    linear_damping: bool = False,
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
    linear_damping : bool          whether the network damps every Fourier mode at a rate of its own and does no more

    Raises
    ------
    DataError    if evaluate.json or the prepared catalogue is missing
    """
    spacing = tuple(float(h) for h in host.grid.spacing)
    return ArtifactMetadata(
        name=experiment.name,
        kind="grid",
        inputs=(field_port("velocity", len(spacing), host.layout),),
        outputs=(field_port(experiment.train.apriori.force, len(spacing), host.layout),),
        dtype=experiment.export.dtype,
        filter=FilterDescription(kind=experiment.prepare.filter.kind, width=filter_width(experiment, host)),
        host=HostDescription(
            kind=experiment.host.kind,
            order=getattr(experiment.host, "order", None),
            advection=getattr(experiment.host, "advection", None),
            grid_spacing=spacing,
            time_step=experiment.host.time_step,
        ),
        validity=validity,
        halo=halo,
        linear_damping=linear_damping,
        fallback=describe_fallback(experiment, host),
        training_data_digest=_data_digest(experiment, paths),
        config_digest=digest(experiment),
        provenance=provenance(),
        certificate=Certificate(residuals=residuals, a_priori=a_priori_scores(paths)),
    )


def a_priori_scores(paths: RunPaths) -> dict[str, Any]:
    """Return evaluate.json with the scores of the learned closure beside those of the best classical one.

    The best is the one with the least relative error of the force that the network was trained for.

    Raises
    ------
    DataError    if the file is missing
    """
    evaluation = read_json(paths.evaluation)
    scores = {closure["name"]: closure for closure in evaluation["closures"]}
    classical = [name for name in scores if name not in ("learned", "none")]
    error = ERROR_OF_TARGET[evaluation["target"]]
    best = min(classical, key=lambda name: scores[name][error], default=None)
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
    DataError    if a shard is missing or damaged, or the data have no range: uniform, or not finite
    """
    speeds, gradients = [], []
    for realisation in realisations:
        with catalogue.open(realisation) as recorded:
            for start in range(0, recorded.header.num_snapshots, SNAPSHOTS_AT_ONCE):
                snapshots = recorded.read("velocity", start, start + SNAPSHOTS_AT_ONCE)
                velocity = torch.from_numpy(snapshots).to(host.grid.dtype)
                staggered = host.layout == "staggered"
                speeds.append(_extremes(speed(velocity, staggered)))
                gradients.append(_extremes(gradient_magnitude(velocity, list(host.grid.spacing), staggered)))
    validity = ValidityRange(velocity_magnitude=_range(speeds), gradient_magnitude=_range(gradients))
    largest = validity.velocity_magnitude[1], validity.gradient_magnitude[1]
    # All that moves would be outside, and every host would run the classical closure without being told.
    if not (min(largest) > 0 and math.isfinite(sum(largest))):
        numbers = ", ".join(map(str, realisations))
        raise DataError(
            f"{catalogue.directory}: the training data of realisations {numbers} are uniform or not finite (largest "
            f"speed {largest[0]:.3g} m/s, gradient {largest[1]:.3g} 1/s); record or ingest a flow that moves"
        )
    return validity


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


def field_port(name: str, num_dims: int, layout: str, axes: str | None = None) -> FieldPort:
    """Return a field of the registry as input or output of an artifact; the axes are those of a grid if not given."""
    field = FIELDS[name]
    components, axes = field.components_in(num_dims), axes or "bcxyz"[: 2 + num_dims]
    return FieldPort(field=name, unit=field.unit, components=components, layout=layout, axes=axes)
