"""What stands beside the network in fit.json is right, and what cannot be trained on is one line."""

import numpy as np
import pytest
import torch

from hpcsurrogate.core.config import TensorBasisModel
from hpcsurrogate.core.config_cells import CellExperiment, CellTraining, CoarseMesh, OpenFoamSource
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.cells import CellCatalogue, CellSamples, write_cells
from hpcsurrogate.export.pointwise_closure import SmagorinskyStress
from hpcsurrogate.pipeline.cells import run_fit, smagorinsky_constant
from hpcsurrogate.train.cells import Cells


def samples(stress_of, num_cells=500):
    random = np.random.default_rng(0)
    gradient, width = random.standard_normal((num_cells, 9)), random.uniform(0.5, 2.0, num_cells)
    gradient[:, 8] = -gradient[:, 0] - gradient[:, 4]
    stress = stress_of(torch.from_numpy(gradient), torch.from_numpy(width)).numpy()
    return CellSamples(gradient, width, stress, random.uniform(0.1, 1.0, num_cells))


def experiment(folder):
    return CellExperiment(
        name="cells",
        run_dir=str(folder),
        simulate=OpenFoamSource(kind="openfoam", case="fine"),
        prepare=CoarseMesh(coarse="coarse"),
        train=CellTraining(model=TensorBasisModel(kind="tensor_basis", channels=4), epochs=1),
    )


def written(folder, parts):
    paths = RunPaths(folder)
    files = tuple(write_cells(paths.cells / f"cells-{i}.hdf5", part, float(i), "") for i, part in enumerate(parts))
    CellCatalogue(paths.cells, 0.1, files).write()
    return paths


@pytest.mark.parametrize("constant", [0.1, 0.17])
def test_constant_of_smagorinsky_is_found_again(constant):
    law = SmagorinskyStress(3, constant)
    cells = Cells.of(samples(law), torch.float64)
    assert smagorinsky_constant(cells) == pytest.approx(constant, rel=1e-6)  # buffers of the closure are float32
    assert cells.error(law) < 1e-6
    assert smagorinsky_constant(Cells.of(samples(lambda g, w: -law(g, w)), torch.float64)) == 0.0


def test_too_few_times_and_flows_without_stress_are_refused(tmp_path):
    some = samples(SmagorinskyStress(3, 0.1))
    with pytest.raises(ConfigError, match=r"cells: 1 time\(s\) are too few"):
        run_fit(experiment(tmp_path / "one"), written(tmp_path / "one", [some]))
    still = samples(lambda gradient, width: torch.zeros(len(width), 6))
    with pytest.raises(DataError, match="the stress is zero at all times of a split"):
        run_fit(experiment(tmp_path / "still"), written(tmp_path / "still", [some, still]))
