"""The stages export and verify: from trained weights to a certified TorchScript file, and the check of that file."""

import torch
from torch import Tensor

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.export.certificate import measure_residuals
from hpcsurrogate.export.describe import describe_artifact, measure_validity
from hpcsurrogate.export.script import artifact_bytes, parity, script_module, write_artifact
from hpcsurrogate.export.verify import run_verify, verify_artifact
from hpcsurrogate.models.build import load_weights
from hpcsurrogate.physics.hosts import make_host

__all__ = ["run_export", "run_verify", "verify_artifact"]


def run_export(experiment: Experiment, paths: RunPaths) -> None:
    """Write `model.pt` and its checksum `model.pt.sha256`.

    Parameters
    ----------
    experiment : Experiment
    paths : RunPaths    needs the trained weights, the prepared shards and evaluate.json

    Raises
    ------
    DataError            if one of those is missing or damaged
    ModelRefusedError    if the network cannot be scripted, if the scripted one differs from it by more than 1e-6, or
                         if it returns zeros or non-finite values

    Notes
    -----
    The same weights give the same network in the file; only its metadata names the time and the machine
    (tests/unit/export/test_stage.py). The a-posteriori entry is `unverified` until the closure has run in a solver.
    """
    module = load_weights(experiment, paths).cpu().eval()
    host = make_host(experiment.host, experiment.flow)
    catalogue = Catalogue.read(paths.prepared)
    golden_input = _golden_input(catalogue, experiment.prepare.split.validation[0])
    scripted = script_module(module)
    residuals = measure_residuals(scripted, golden_input, host.layout, host.grid.spacing)
    difference = parity(module, scripted, golden_input)
    validity = measure_validity(catalogue, experiment.prepare.split.train, host)
    metadata = describe_artifact(experiment, paths, host, validity, residuals)
    with torch.no_grad():
        golden_output = scripted(golden_input)
    content = artifact_bytes(scripted, metadata, golden_input, golden_output, module.state_dict())
    write_artifact(paths.model, content)
    get_logger("export").info(
        "wrote %s (%.1f kB), scripted and eager network differ by %.1e", paths.model, len(content) / 1e3, difference
    )


def _golden_input(catalogue: Catalogue, realisation: int) -> Tensor:
    """The last snapshot of a realisation that training has not seen; whole, since a crop is not periodic."""
    with catalogue.open(realisation, verify=True) as recorded:
        return torch.from_numpy(recorded.snapshot("velocity", -1)).to(torch.float32).unsqueeze(0)
