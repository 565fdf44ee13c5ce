"""Trains the stress of single cells on samples of data/cells.py: regression, every cell by itself, on any mesh.

loss = sum V |tau_dev - model|^2 / sum V |tau_dev|^2       over cells; V = volume, |.| = Frobenius norm
"""

import copy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from hpcsurrogate.core.config_cells import CellTraining
from hpcsurrogate.core.errors import DivergedError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.data.cells import CellSamples
from hpcsurrogate.models.build import build_cell_model
from hpcsurrogate.train.schedule import learning_rate

log = get_logger("fit")

WARM_UP = 10  # steps
DIAGONAL = (0, 3, 5)  # components of a stress xx, xy, xz, yy, yz, zz
TWICE = (1.0, 2.0, 2.0, 1.0, 2.0, 1.0)  # how often a component stands in the whole tensor


@dataclass(frozen=True)
class Cells:
    """Cells as a network is given them.

    Attributes
    ----------
    gradient : Tensor, shape (n, 9) [1/s]    scaled by the shape of the cell
    width : Tensor, shape (n,) [m]
    stress : Tensor, shape (n, 6) [m^2/s^2]    deviatoric
    volume : Tensor, shape (n,) [m^3]
    """

    gradient: Tensor
    width: Tensor
    stress: Tensor
    volume: Tensor

    @classmethod
    def of(cls, samples: CellSamples, dtype: torch.dtype = torch.float32) -> Self:
        """Take the trace off the stress, in double precision, and convert."""
        stress = torch.from_numpy(samples.sgs_stress).clone()
        stress[:, DIAGONAL] -= stress[:, DIAGONAL].mean(1, keepdim=True)
        columns = (samples.scaled_velocity_gradient, samples.filter_width, stress, samples.volume)
        return cls(*(torch.as_tensor(column).to(dtype) for column in columns))

    def at(self, rows: Tensor) -> Self:
        """Return some of the cells."""
        return type(self)(self.gradient[rows], self.width[rows], self.stress[rows], self.volume[rows])

    @property
    def strength(self) -> Tensor:
        """Mean over the volume of |tau_dev|^2, shape () [m^4/s^4]."""
        return self.mean_square(self.stress)

    def mean_square(self, stress: Tensor) -> Tensor:
        """Mean over the volume of the square of a stress (n, 6), shape () [m^4/s^4]."""
        squares = (stress.square() * stress.new_tensor(TWICE)).sum(1)
        return (self.volume * squares).sum() / self.volume.sum()

    def error(self, closure: nn.Module) -> float:
        """Return the root of the loss of a closure on these cells; 0 if it is right, 1 if it returns zero."""
        with torch.no_grad():
            return float((self.mean_square(self.stress - closure(self.gradient, self.width)) / self.strength).sqrt())


def fit_cells(
    settings: CellTraining, training: Cells, validation: Cells, seed: int
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train a network on cells and return it as it was at its best validation; a model without weights as it is.

    Parameters
    ----------
    settings : CellTraining
    training, validation : Cells    float32
    seed : int                      of weights and of the order of cells

    Returns
    -------
    Module, and for every epoch the roots of the losses {"epoch", "training", "validation"}

    Raises
    ------
    DivergedError    if the loss is not finite

    Notes
    -----
    Finds a law that the network can express again from its samples (tests/unit/train/test_cells.py).
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_cell_model(settings.model)
    if not list(network.parameters()):
        return network, []
    optimizer = torch.optim.Adam(network.parameters())
    generator = torch.Generator().manual_seed(seed)
    scale = training.strength
    batches = -(-len(training.width) // settings.batch_size)
    best, history = copy.deepcopy(network), []
    step = 0
    for epoch in range(1, settings.epochs + 1):
        total = 0.0
        for rows in torch.randperm(len(training.width), generator=generator).chunk(batches):
            optimizer.param_groups[0]["lr"] = learning_rate(
                step, settings.epochs * batches, settings.learning_rate, WARM_UP
            )
            cells = training.at(rows)
            loss = cells.mean_square(network(cells.gradient, cells.width) - cells.stress) / scale
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, step = total + loss.item() / batches, step + 1
        history.append({"epoch": epoch, "training": total**0.5, "validation": validation.error(network)})
        if not all(map(torch.isfinite, torch.tensor(list(history[-1].values())))):
            raise DivergedError(f"fit: the loss of epoch {epoch} is not finite; lower train.learning_rate")
        if history[-1]["validation"] <= min(row["validation"] for row in history):
            best = copy.deepcopy(network)
        log.info("epoch %d: training %.4f, validation %.4f", *history[-1].values())
    return best.eval(), history
