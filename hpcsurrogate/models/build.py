"""From the experiment file to a network, and from its weights on disk to the trained network."""

from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file
from torch import nn

from hpcsurrogate.core.config import (
    CnnModel,
    DampingModel,
    DeconvolutionModel,
    Experiment,
    Flow,
    FourierOperatorModel,
    Host,
    Model,
    ResidualModel,
    ScaleEstimationModel,
    StressStencilModel,
    TensorBasisModel,
)
from hpcsurrogate.core.config_cells import GradientModel
from hpcsurrogate.core.errors import ConfigError, DataError, ModelRefusedError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.models.cnn import PeriodicCnn
from hpcsurrogate.models.damping import DampingNet
from hpcsurrogate.models.deconvolution import DeconvolutionNet
from hpcsurrogate.models.deconvolution_3d import DeconvolutionNet3D
from hpcsurrogate.models.features import PrincipalPatches, ScalarChannels
from hpcsurrogate.models.fourier_operator import FourierOperator
from hpcsurrogate.models.gradient_stress import GradientStress
from hpcsurrogate.models.quadratic_stencil import QuadraticStencilNet
from hpcsurrogate.models.residual import ResidualNet
from hpcsurrogate.models.scale_estimation import ScaleEstimationNet
from hpcsurrogate.models.stress_stencil import StressStencilNet
from hpcsurrogate.models.tensor_basis import TensorBasisNet, TensorBasisStress

# How the names of buffers end that say in which units and at which width a network works, rather than what it has
# learned.
OF_THE_EXPERIMENT = (
    "velocity_scale",
    "force_scale",
    "scalars.own_width",
    "scalars.viscosity",
    "filter_width",
    "rate_scale",
)


class Scales(Protocol):
    """What a network needs to know of the training data; data.statistics.Statistics provides it."""

    @property
    def velocity_rms(self) -> float:
        """Root mean square of a velocity component [m/s]."""

    @property
    def commutator_rms(self) -> float:
        """Root mean square of a component of the commutator [m/s^2]."""


def build_model(model: Model, host: Host, flow: Flow, scales: Scales | None) -> nn.Module:
    """An untrained network whose forward takes and returns physical quantities on the host's velocity points.

    Parameters
    ----------
    model, host, flow : sections of the experiment
    scales : Scales or None    None leaves them at one, for weights that bring their own

    Returns
    -------
    nn.Module, float32, forward(velocity (b, d, nx, ny[, nz]) [m/s]) -> acceleration of the same shape [m/s^2]

    Raises
    ------
    ConfigError    if the network does not fit the host's layout, spacing or number of dimensions
    """
    num_dims = len(host.grid)
    velocity_scale, force_scale = (1.0, 1.0) if scales is None else (scales.velocity_rms, scales.commutator_rms)
    if isinstance(model, FourierOperatorModel):
        if 2 * model.modes >= min(host.grid):
            raise ConfigError(
                f"train.model.modes: {model.modes} modes need more than {2 * model.modes} points along each axis, "
                f"host.grid has {min(host.grid)}; give fewer"
            )
        return FourierOperator(num_dims, model.channels, model.hidden_layers, model.modes, velocity_scale, force_scale)
    if isinstance(model, CnnModel):
        if model.principal_components and num_dims == 3:
            raise ConfigError(
                "train.model.principal_components: patches are of two dimensions, host.grid has three; leave them out, "
                "or take tensor_basis"
            )
        patches = model.principal_components and PrincipalPatches(
            model.principal_components.patch, model.principal_components.components
        )
        scalars = ScalarChannels(model.scalars) if model.scalars else None
        return PeriodicCnn(
            model.channels,
            model.hidden_layers,
            model.kernel_size,
            velocity_scale,
            force_scale,
            patches,
            scalars,
            model.dropout,
            num_dims,
        )
    spacing = [length / points for length, points in zip(flow.domain, host.grid, strict=True)]
    if isinstance(model, DampingModel):
        return DampingNet(tuple(spacing), model.knots, velocity_scale)
    if isinstance(model, TensorBasisModel):
        staggered = host.kind == "finite_volume"
        return TensorBasisNet(tuple(spacing), staggered, model.channels, model.hidden_layers)
    if isinstance(model, StressStencilModel):
        return _stress_stencil(model, host, spacing)
    if isinstance(model, ScaleEstimationModel):
        return _scale_estimation(model, host, spacing)
    if isinstance(model, DeconvolutionModel):
        return _deconvolution(model, host, flow, spacing, velocity_scale)
    if isinstance(model, ResidualModel):
        return _residual(model, host, flow, scales)
    if num_dims == 3:
        raise ConfigError(
            "train.model.kind: quadratic_stencil is of two dimensions, host.grid has three; take tensor_basis or cnn"
        )
    if host.kind != "finite_volume":
        raise ConfigError(
            "train.model.kind: quadratic_stencil needs a finite_volume host (staggered velocities); "
            "take cnn for a spectral one"
        )
    if abs(spacing[0] / spacing[1] - 1) > 1e-9:
        raise ConfigError(
            f"host.grid: quadratic_stencil needs square cells, not {spacing[0]:.6g} m by {spacing[1]:.6g} m; "
            "change host.grid or flow.domain, or take cnn"
        )
    return QuadraticStencilNet(spacing[0], model.channels, model.output_channels)


def _stress_stencil(model: StressStencilModel, host: Host, spacing: list[float]) -> StressStencilNet:
    """Its stencils are the same along every axis."""
    if max(spacing) > (1 + 1e-9) * min(spacing):
        sides = " m by ".join(f"{h:.6g}" for h in spacing)
        raise ConfigError(
            f"host.grid: stress_stencil needs cells of equal sides, not {sides} m; change host.grid or flow.domain, or "
            "take tensor_basis"
        )
    return StressStencilNet(tuple(spacing), host.kind == "finite_volume", model.channels)


def _scale_estimation(model: ScaleEstimationModel, host: Host, spacing: list[float]) -> ScaleEstimationNet:
    """It cuts off products at the grid's own wavenumber, as a spectral host's velocity is."""
    if host.kind != "spectral" or len(host.grid) == 3:
        raise ConfigError(
            "train.model.kind: scale_estimation is for a spectral host of two dimensions; take stress_stencil or "
            "tensor_basis"
        )
    return ScaleEstimationNet((spacing[0], spacing[1]), model.channels, model.hidden_layers, model.kernel_size)


def _deconvolution(
    model: DeconvolutionModel, host: Host, flow: Flow, spacing: list[float], velocity_rms: float
) -> DeconvolutionNet | DeconvolutionNet3D:
    """It takes the host's own fluxes out, and so has to know them."""
    if host.kind != "finite_volume" or (host.order, host.advection) != (2, "central"):
        raise ConfigError(
            "train.model.kind: deconvolution replaces the central fluxes of second order of a finite_volume host; "
            "give host.order: 2 and host.advection: central, or take cnn"
        )
    if len(host.grid) == 3:
        return DeconvolutionNet3D(tuple(host.grid), tuple(spacing), flow.viscosity, model.knots, velocity_rms)
    return DeconvolutionNet(tuple(host.grid), tuple(spacing), flow.viscosity, model.knots, velocity_rms)


def _residual(model: ResidualModel, host: Host, flow: Flow, scales: Scales | None) -> ResidualNet:
    """Both parts as they would be built alone."""
    if isinstance(model.correction, CnnModel) and (model.correction.principal_components or model.correction.scalars):
        raise ConfigError(
            "train.model.correction: a cnn on top of another network sees the velocity alone; leave "
            "principal_components and scalars out"
        )
    correction = build_model(model.correction, host, flow, scales)
    last = correction.layers[-1].parameters() if isinstance(correction, PeriodicCnn) else [correction.output]
    return ResidualNet(build_model(model.base, host, flow, scales), correction, list(last), len(host.grid))


def load_weights(experiment: Experiment, paths: RunPaths) -> nn.Module:
    """The trained network of a run, in evaluation mode.

    Raises
    ------
    DataError           if the run has no weights yet
    ModelRefusedError   if the file does not hold the weights of the network that the experiment describes
    """
    return with_weights(
        build_model(experiment.train.model, experiment.host, experiment.flow, None), paths.weights, "train"
    )


def with_weights(module: nn.Module, path: Path, stage: str) -> nn.Module:
    """A network with the weights of a file that a stage writes, in evaluation mode.

    Raises
    ------
    DataError           if there is no file
    ModelRefusedError   if it does not hold the weights of this network
    """
    if not path.is_file():
        raise DataError(f"{path}: no trained weights; run `hpcsurrogate {stage}` first")
    try:
        state = load_file(path)
        module.load_state_dict(state)
    except Exception as error:
        summary = " ".join(str(error).split())[:200]
        raise ModelRefusedError(
            f"{path}: not the weights of train.model ({summary}); train again with this configuration"
        ) from error
    if not all(torch.isfinite(tensor).all() for tensor in state.values()):
        raise ModelRefusedError(f"{path}: holds weights that are not finite; train again")
    return module.eval().requires_grad_(False)


def build_cell_model(model: TensorBasisModel | GradientModel) -> nn.Module:
    """The stress of a cell from its scaled gradient and width, with new weights if it has any."""
    if isinstance(model, GradientModel):
        return GradientStress()
    return TensorBasisStress(3, model.channels, model.hidden_layers)
