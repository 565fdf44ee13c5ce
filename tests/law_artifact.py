"""A small law of a fluid with random weights, and what its artifact says; for tests of the file in every host."""

import torch
from torch import Tensor

from hpcsurrogate.core.metadata import ArtifactMetadata, NewtonianDescription, ValidityRange
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.export.law import describe_law
from hpcsurrogate.models.viscous_law import ViscousLaw
from hpcsurrogate.sources.lammps_units import UNITS

NEWTON = NewtonianDescription(
    density=0.8, temperature=1.0, log_viscosity=(1.0, 5.0, -1.0, 0.0, 0.0, 0.0), pressure=(2.0, 9.0, 3.0, 0.0, 0.0, 0.0)
)
RANGE = ValidityRange(
    velocity_magnitude=None, gradient_magnitude=(0.0, 2.0), density=(0.7, 0.9), temperature=(0.7, 1.2)
)


def make_law() -> ViscousLaw:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        law = ViscousLaw(8, 2, 4)
    law.scales = torch.tensor([0.8, 0.05, 0.9, 0.1, 1.0, 2.0, 3.0, 0.5], dtype=torch.float64)
    return law.eval().requires_grad_(False)


def make_cells(count: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    density, temperature = (torch.rand(count, generator=generator, dtype=torch.float64) for _ in range(2))
    gradient = 0.2 * torch.randn(count, 9, generator=generator, dtype=torch.float64)
    return 0.7 + 0.2 * density, 0.7 + 0.5 * temperature, gradient


def describe() -> ArtifactMetadata:
    return describe_law("fluid", UNITS["lj"], RANGE, NEWTON, {}, digest(1), digest(2))
