"""Start a network from what another training has learned, keep parts of it, and let parts of it learn slower.

What travels is the network without units. Its velocity and force scales, filter width and viscosity stay those of this
experiment's data, so that a flow of other units or speed is seen by similarity; principal components, and mean and
spread of the scalars, come along, since the first layer means nothing without them.
"""

import difflib
import hashlib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from hpcsurrogate.core.atomic import read_json, sha256_file
from hpcsurrogate.core.config import Transfer
from hpcsurrogate.core.errors import ConfigError, ModelRefusedError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.models.build import OF_THE_EXPERIMENT
from hpcsurrogate.models.residual import ResidualNet
from hpcsurrogate.train.checkpoint_files import DamagedCheckpoint, read_folder

log = get_logger("train")

KEY = "train.initialise_from"
BEST = "best.safetensors"  # of a checkpoint's folder: train/checkpoint.py


def initialise(module: nn.Module, transfer: Transfer) -> None:
    """Give a network the weights of an artifact, a weights file or a checkpoint (its best ones).

    Called after the features of the network were fitted to the data, which it overrides.

    Parameters
    ----------
    module : nn.Module     changed in place; of a residual network the base alone, if the file holds no correction
    transfer : Transfer    `.path` says where from

    Raises
    ------
    ConfigError          if there is no such file, or it holds another network: the first name that does not fit
    ModelRefusedError    if the file is damaged, is not what its checksum promises, or is not finite

    Notes
    -----
    The new network is the old one in units of the new data, f_new(u) = (F / F_old) f_old(u U_old / U), with U and F the
    root mean squares of velocity and target; the same function where the scales are equal
    (tests/unit/train/test_transfer.py).
    """
    source = _read(_existing(transfer))
    if isinstance(module, ResidualNet) and not any(name.startswith("base.") for name in source):
        module = module.base
    own = module.state_dict()
    _require_fit(own, source, transfer.path)
    kept = {name: tensor for name, tensor in own.items() if name.endswith(OF_THE_EXPERIMENT)}
    if "patches.kernels" in own:  # they take a velocity in m/s, and are to return the same for this flow's velocities
        source["patches.kernels"] *= source["velocity_scale"] / own["velocity_scale"].cpu()
    module.load_state_dict(source | kept)
    log.info("starting from the weights of %s", transfer.path)


def parameter_groups(module: nn.Module, transfer: Transfer | None) -> list[dict[str, Any]]:
    """Sort the parameters that learn into groups of equal learning rate; the others no longer require a gradient.

    Parameters
    ----------
    module : nn.Module
    transfer : Transfer or None    `.frozen` and `.learning_rates`; None for one group of all

    Returns
    -------
    list of dict    for torch.optim: `params`, and `rate_factor` [-], which the loop multiplies the learning rate with;
                    in the same order on every rank and in every run

    Raises
    ------
    ConfigError    if a name fits no parameter, fits only such as are taken already, or if nothing is left to learn
    """
    parameters = dict(module.named_parameters())
    if transfer is None:
        return [{"params": list(parameters.values()), "rate_factor": 1.0}]
    frozen = {name for pattern in transfer.frozen for name in _fitting(pattern, parameters, f"{KEY}.frozen")}
    for name in frozen:
        parameters[name].requires_grad_(False)
    taken, groups = set(frozen), []
    for pattern, factor in transfer.learning_rates.items():
        fitting = _fitting(pattern, parameters, f"{KEY}.learning_rates")
        names = [name for name in fitting if name not in taken]
        if not names:
            raise ConfigError(
                f"{KEY}.learning_rates: '{pattern}' fits only {fitting[0]} and what else is frozen or named before; "
                "put it first or leave it out"
            )
        taken.update(names)
        groups.append({"params": [parameters[name] for name in names], "rate_factor": factor})
    others = [parameter for name, parameter in parameters.items() if name not in taken]
    groups = [{"params": others, "rate_factor": 1.0}, *groups] if others else groups
    if not groups:
        raise ConfigError(f"{KEY}.frozen: nothing is left to learn; leave out {', '.join(transfer.frozen)} in part")
    return groups


def transfer_digest(transfer: Transfer) -> str:
    """SHA-256 of the weights that a training starts from: they decide its result as much as the data do.

    Raises
    ------
    ConfigError    if there is no such file
    """
    path = _existing(transfer)
    return sha256_file(path / BEST if path.is_dir() else path)


def _existing(transfer: Transfer) -> Path:
    path = Path(transfer.path)
    if not path.exists() or (path.is_dir() and not (path / BEST).is_file()):
        what = "holds no checkpoint" if path.exists() else "does not exist"
        raise ConfigError(
            f"{KEY}.path: {path.absolute()} {what}; name an artifact (model.pt), a weights.safetensors or a "
            "checkpoint's folder (step-00001200)"
        )
    return path


def _read(path: Path) -> dict[str, Tensor]:
    """The weights by name, checked against the SHA-256 that whoever wrote them has noted."""
    if path.is_dir():
        return _from_bytes(_checkpoint_bytes(path), path / BEST)
    if path.suffix == ".safetensors":
        return _from_bytes(_recorded_bytes(path), path)
    artifact = load_artifact(path)
    weights = artifact.weights
    if artifact.metadata.kind == "pointwise":
        raise ConfigError(f"{KEY}.path: {path} holds a part of a network; name the model.pt that was written with it")
    if not weights:
        raise ModelRefusedError(
            f"{path}: this artifact holds no weights by name, being of an older version; export it again, or start "
            "from the weights.safetensors of its run"
        )
    return weights


def _checkpoint_bytes(folder: Path) -> bytes:
    try:
        return read_folder(folder, [BEST])[1][BEST]
    except DamagedCheckpoint as damage:
        raise ModelRefusedError(f"{folder}: damaged ({damage}); start from another checkpoint") from None


def _recorded_bytes(path: Path) -> bytes:
    """Read once, so that what is checked is what is loaded. A file outside the run that made it has no checksum."""
    content = path.read_bytes()
    record = RunPaths(path.parent).stages / "train.json"  # of pipeline/records.py
    recorded = read_json(record)["outputs"].get(path.name) if record.is_file() else None
    if recorded is not None and hashlib.sha256(content).hexdigest() != recorded["sha256"]:
        raise ModelRefusedError(f"{path}: has another SHA-256 than {record} says; copy it again or train again")
    return content


def _from_bytes(content: bytes, path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise ModelRefusedError(f"{path}: is no whole safetensors file ({error}); copy it again") from None


def _require_fit(own: dict[str, Tensor], source: dict[str, Tensor], path: str) -> None:
    for name in [*own, *source]:
        here, there = (tensors[name].shape if name in tensors else None for tensors in (own, source))
        if here != there:
            raise ConfigError(
                f"{KEY}.path: {path} has {_described(name, there)}, train.model {_described(name, here)}; "
                "give train.model the kind and size of that network"
            )
        if not torch.isfinite(source[name]).all():
            raise ModelRefusedError(f"{path}: {name} holds values that are not finite; start from another file")


def _described(name: str, shape: torch.Size | None) -> str:
    return f"no {name}" if shape is None else f"{name} of shape {tuple(shape)}"


def _fitting(pattern: str, names: dict[str, nn.Parameter], key: str) -> list[str]:
    fitting = [name for name in names if fnmatchcase(name, pattern)]
    if not fitting:
        nearest = difflib.get_close_matches(pattern, names, n=1, cutoff=0.0)[0]
        raise ConfigError(f"{key}: '{pattern}' fits no parameter; the nearest is '{nearest}'")
    return fitting
