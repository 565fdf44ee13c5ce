"""Artifacts for hosts: networks with random weights, through the functions that users export with."""

import sys
from pathlib import Path

import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow
from hpcsurrogate.core.metadata import FilterDescription, HostDescription
from hpcsurrogate.export.pointwise import describe_pointwise, write_pointwise
from hpcsurrogate.models.tensor_basis import TensorBasisStress

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import random_artifacts

HOST = FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.01)
FLOW = Flow(viscosity=1e-3)
HOST_3D = FiniteVolumeHost(kind="finite_volume", grid=(12, 10, 8), time_step=0.01)
MODEL_3D = {"kind": "tensor_basis", "channels": 6}
FLOW_3D = Flow(viscosity=1e-3, domain=(1.2, 1.5, 0.8))
LARGEST_GRADIENT = 3.0  # [1/s] of the pointwise artifact


def write_grid(path: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write an artifact of kind `grid`, a quadratic_stencil on 16 x 16 staggered cells, halo 5.

    Its trained range is twice that of noise of 1 m/s.
    """
    velocity = random_artifacts.random_velocity(HOST, dtype)
    random_artifacts.write_random_artifact(path, {"kind": "quadratic_stencil"}, HOST, FLOW, velocity)
    return path


def write_grid_3d(path: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write an artifact of kind `grid`, a tensor_basis on 12 x 10 x 8 staggered cells of different sides, halo 3.

    Its trained range is twice that of noise of 1 m/s.
    """
    velocity = random_artifacts.random_velocity(HOST_3D, dtype)
    random_artifacts.write_random_artifact(path, MODEL_3D, HOST_3D, FLOW_3D, velocity)
    return path


def write_pointwise_2d(path: Path, dtype: str = "float32") -> Path:
    """Write an artifact of kind `pointwise`, a tensor_basis in two dimensions, for gradients up to LARGEST_GRADIENT."""
    host = HostDescription(kind="finite_volume", order=2, grid_spacing=(0.1, 0.1), time_step=0.01)
    filter_description = FilterDescription(kind="face_average", width=0.1)
    metadata = describe_pointwise("tensor_basis", 2, filter_description, host, LARGEST_GRADIENT, dtype=dtype)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        core = TensorBasisStress(2, channels=8, hidden_layers=2)
    write_pointwise(path, core, metadata)
    return path
