"""Starts a fluid's law from what another fluid has taught: weights, and what they are anchored to.

What travels is the law without units of stress. The scales of density, temperature and rate come along, since the
weights mean nothing in others; the unit of viscosity and the mean pressure are chosen anew, so that the other fluid's
law is right on average for the runs of this one.
"""

import torch
from torch import Tensor

from hpcsurrogate.core.config_fluid import LawTraining
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.evaluate.law import LawSamples, viscosity_of
from hpcsurrogate.models.viscous_law import ViscousLaw

KEY = "train.initialise_from"
PRESSURE_MEAN, VISCOSITY = 4, 6  # places in ViscousLaw.scales


def read_first_law(settings: LawTraining) -> ViscousLaw | None:
    """Return the law that `train.initialise_from` names; None if it names none.

    Raises
    ------
    DataError            if there is no such file
    ModelRefusedError    if it is damaged
    ConfigError          if it is no law of a fluid, or its networks are of another shape than `train.model`
    """
    path = settings.initialise_from
    if path is None:
        return None
    try:
        law = ViscousLaw.of_weights(load_artifact(path).weights)
    except (KeyError, RuntimeError) as error:
        raise ConfigError(f"{KEY}: {path} is no law of a fluid ({error!r}); give the law.pt of a fit") from None
    shape, wanted = (law.channels, len(law.layers)), (settings.model.channels, settings.model.hidden_layers)
    if shape != wanted:
        raise ConfigError(
            f"{KEY}: {path} has {shape[1]} layers of width {shape[0]}, train.model {wanted[1]} of {wanted[0]};"
            " make them equal"
        )
    return law


def scales_for(law: ViscousLaw, samples: LawSamples) -> Tensor:
    """Return the scales with which another fluid's law is right on average for these runs, shape (8,).

    Parameters
    ----------
    law : ViscousLaw        of the other fluid
    samples : LawSamples    of training

    Raises
    ------
    DataError    if no run is sheared, or none resists

    Notes
    -----
    The law of a fluid that is k times as viscous everywhere fits with the factor k alone
    (tests/unit/train/test_law_transfer.py).
    """
    with torch.no_grad():
        shear = viscosity_of(law)(samples.density, samples.temperature, samples.rate) * samples.rate
        pressure = law.coefficients(samples.density, samples.temperature, samples.rate.square())[1].mean(0)
    sure = samples.shear_error.clamp_min(torch.finfo(torch.float64).tiny).square().reciprocal() * (samples.rate > 0)
    ratio = float((sure * shear * samples.shear(samples.stress)).sum() / (sure * shear.square()).sum())
    if not ratio > 0:
        raise DataError(
            "no run is sheared, or the mean viscosity of the runs is not positive: see the signs in `ingest`"
        )
    scales = law.scales.clone()
    scales[VISCOSITY] *= ratio
    scales[PRESSURE_MEAN] += (samples.pressure - pressure).mean()
    return scales
