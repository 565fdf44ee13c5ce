"""An artifact called the way FTorch calls a model, from column-major arrays, gives what Python gives."""

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from random_artifacts import random_velocity, write_random_artifact

from hpcsurrogate.core.config import FiniteVolumeHost, Flow
from hpcsurrogate.embed.artifact import load_artifact

NX, NY = 12, 16  # unequal: exchanged axes would show
HOST = FiniteVolumeHost(kind="finite_volume", grid=(NX, NY), time_step=0.01)
FLOW = Flow(viscosity=1e-3, domain=(NX * math.pi / 8, NY * math.pi / 8))


@pytest.fixture(scope="module")
def program(build_host) -> Path:
    return build_host(Path(__file__).with_name("ftorch_convention"), "ftorch_convention")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("network", ["quadratic_stencil", "tensor_basis"])
def test_column_major_arrays_are_taken_as_they_lie_in_memory(program, tmp_path, network, dtype, tolerance):
    path = tmp_path / "model.pt"
    write_random_artifact(path, {"kind": network}, HOST, FLOW, random_velocity(HOST, dtype))
    velocity = random_velocity(HOST, dtype, seed=1)
    expected = load_artifact(path)(velocity)
    fortran = velocity[0].permute(1, 2, 0).numpy()  # velocity(nx, ny, 2)
    command = [str(program), str(path), str(NX), str(NY), str(dtype).removeprefix("torch.")]
    done = subprocess.run(command, input=fortran.tobytes(order="F"), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found = np.frombuffer(done.stdout, fortran.dtype).reshape((NX, NY, 2), order="F")
    expected = expected[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
