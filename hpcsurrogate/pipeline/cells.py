"""From samples of cells to an artifact of kind pointwise: training, scores beside classical closures, the file."""

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from hpcsurrogate.core.atomic import atomic_path, write_json_atomic
from hpcsurrogate.core.config_cells import CellExperiment
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.metadata import Certificate, FilterDescription, HostDescription
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.data.cells import CellCatalogue
from hpcsurrogate.export.pointwise import NUM_GOLDEN_CELLS, describe_pointwise, write_pointwise
from hpcsurrogate.export.pointwise_closure import SmagorinskyStress
from hpcsurrogate.models.gradient_stress import GradientStress
from hpcsurrogate.train.cells import Cells, fit_cells

log = get_logger("fit")


def run_fit(experiment: CellExperiment, paths: RunPaths) -> dict:
    """Train on paths.cells; write paths.weights, paths.pointwise with checksum and card, and paths.fit, the scores.

    Parameters
    ----------
    experiment : CellExperiment
    paths : RunPaths

    Returns
    -------
    dict    what is in paths.fit: `errors` on the validation times of the network and of classical closures, 1 meaning
            no closure at all; the fitted `smagorinsky_constant`; `history` of the training

    Raises
    ------
    ConfigError      if there are too few times to keep one for validation
    DataError        if a file of cells is missing or damaged, or there is no stress in them
    DivergedError    if the loss is not finite
    """
    catalogue = CellCatalogue.read(paths.cells)
    num_training = experiment.prepare.num_training(len(catalogue.files))
    if num_training < 1:
        raise ConfigError(f"{paths.cells}: {len(catalogue.files)} time(s) are too few for training and validation")
    samples = [catalogue.samples(files) for files in (catalogue.files[:num_training], catalogue.files[num_training:])]
    training, validation = (Cells.of(part) for part in samples)
    if not (training.strength > 0 and validation.strength > 0):
        raise DataError(f"{paths.cells}: the stress is zero at all times of a split; ingest times with turbulence")
    network, history = fit_cells(experiment.train, training, validation, experiment.seed)
    with atomic_path(paths.weights) as temporary:
        save_file(network.state_dict(), temporary)
    constant = smagorinsky_constant(training)
    closures = {"learned": network, "smagorinsky": SmagorinskyStress(3, constant), "gradient": GradientStress()}
    errors = {name: validation.error(closure) for name, closure in closures.items()}
    _write_artifact(experiment, paths.pointwise, network, catalogue, training, errors)
    scores = {"errors": errors, "smagorinsky_constant": constant, "history": history}
    write_json_atomic(paths.fit, scores)
    for name, error in errors.items():
        log.info("%-12s relative error of the stress %.3f", name, error)
    return scores


def smagorinsky_constant(cells: Cells) -> float:
    """Return C of Smagorinsky's closure with the least error on these cells; 0 if its stress has the wrong sign."""
    unit = SmagorinskyStress(3, 1.0)(cells.gradient, cells.width)
    # <a, b> from the squares of sum and difference
    product = (cells.mean_square(unit + cells.stress) - cells.mean_square(unit - cells.stress)) / 4
    return math.sqrt(max(0.0, float(product / cells.mean_square(unit))))


def _scores_for_card(errors: dict[str, float]) -> dict:
    lines = {name: {"name": name, "relative_error_stress": error} for name, error in errors.items()}
    best = min(("smagorinsky", "gradient"), key=errors.__getitem__)
    return {"target": "sgs_stress", "learned": lines["learned"], "best_classical": lines[best]}


def _write_artifact(
    experiment: CellExperiment, path: Path, network: nn.Module, catalogue: CellCatalogue, cells: Cells, errors: dict
) -> None:
    width = float(cells.width.double().mean())
    metadata = describe_pointwise(
        experiment.name,
        3,
        FilterDescription(kind="box", width=width),
        HostDescription(
            kind="finite_volume", order=2, grid_spacing=(width, width, width), time_step=catalogue.time_step
        ),
        float(cells.gradient.square().sum(1).max().sqrt()),
        experiment.export.fallback.constant,
        experiment.export.dtype,
        scaled=True,
    )
    metadata = metadata.model_copy(
        update={
            "training_data_digest": digest([file.sha256 for file in catalogue.files]),
            "config_digest": digest(experiment),
            "certificate": Certificate(residuals={}, a_priori=_scores_for_card(errors)),
        }
    )
    chosen = torch.linspace(0, len(cells.width) - 1, min(NUM_GOLDEN_CELLS, len(cells.width))).round().long()
    write_pointwise(path, network, metadata, (cells.gradient[chosen].contiguous(), cells.width[chosen].contiguous()))
