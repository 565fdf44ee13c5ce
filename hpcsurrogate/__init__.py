"""Train turbulence and constitutive closures from fine-scale simulation and run them inside coarse solvers."""

__version__ = "0.1.0"
