"""Fits what a network sees beside or instead of the velocity (models/features.py) to the training data."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.models.cnn import PeriodicCnn
from hpcsurrogate.models.features import patch_covariance
from hpcsurrogate.models.stress_stencil import StressStencilNet
from hpcsurrogate.models.tensor_basis import TensorBasisNet
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train.phases import TrainingData

# Snapshots that the principal components are fitted to, evenly spaced over the training data: neighbours are alike, and
# a snapshot of 64 x 64 points holds 4096 patches.
NUM_SNAPSHOTS = 256


def mean_widths(catalogues: Sequence[Catalogue], realisations: Sequence[int]) -> np.ndarray:
    """Return the filter width, the geometric mean over the axes [m], of every realisation of every catalogue.

    Returns
    -------
    ndarray, shape (catalogues x realisations,), float64
    """
    widths = [catalogue.description(number).filter_width for catalogue in catalogues for number in realisations]
    return np.array([np.prod(width) ** (1 / len(width)) for width in widths])


def fit_features(module: nn.Module, experiment: Experiment, data: TrainingData, world: World) -> None:
    """Fit principal components and the scales of scalars, if the network has any; the same on every rank. Collective.

    A network that works with a filter width gets that of the host's own filter.

    Raises
    ------
    ConfigError    if a scalar does not vary in the training data, or patches have fewer directions than components
    """
    if isinstance(module, TensorBasisNet | StressStencilNet):
        module.filter_width.fill_(data.filter_widths[0])
    if not isinstance(module, PeriodicCnn) or (module.patches is None and module.scalars is None):
        return
    with world.failing_together():
        if world.rank == 0:
            velocity, widths = _spread_snapshots(data)
            if module.patches is not None:
                module.patches.fit(*patch_covariance(velocity, 2 * module.patches.halo + 1))
            if module.scalars is not None:
                # The first realisations are those of the host's own filter.
                module.scalars.fit(data.filter_widths[0], experiment.flow.viscosity, velocity, widths)
    module.load_state_dict(world.bcast(module.state_dict()))


def _spread_snapshots(data: TrainingData) -> tuple[torch.Tensor, torch.Tensor]:
    """Velocities (n, 2, nx, ny) [m/s], evenly spaced over the training data, and their filter widths (n,) [m]."""
    table = data.pairs.table
    number = min(NUM_SNAPSHOTS, table.num_snapshots)
    snapshots = np.linspace(0, table.num_snapshots - 1, number).round().astype(np.int64)
    velocity = np.empty((len(snapshots), *data.pairs.shape("velocity")), data.pairs.dtype("velocity"))
    data.pairs.read("velocity", snapshots, velocity)
    widths = np.repeat(data.filter_widths, table.lengths)[snapshots]
    return torch.from_numpy(velocity).movedim(-1, 1).float(), torch.from_numpy(widths).float()
