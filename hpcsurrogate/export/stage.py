"""The stages export and verify: from trained weights to a certified TorchScript file, and the check of that file."""

from pathlib import Path

import torch
from torch import Tensor, nn

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.metadata import ArtifactMetadata
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.embed.artifact import manifest_path
from hpcsurrogate.export.certificate import measure_residuals
from hpcsurrogate.export.describe import describe_artifact, describe_fallback, measure_validity
from hpcsurrogate.export.forms import require_formats, write_forms
from hpcsurrogate.export.grid_closure import grid_closure, halo_of
from hpcsurrogate.export.pointwise import pointwise_closure, write_pointwise_of_run
from hpcsurrogate.export.pointwise_closure import PointwiseClosure
from hpcsurrogate.export.script import artifact_bytes, parity, script_module, write_artifact
from hpcsurrogate.export.verify import run_verify, verify_artifact
from hpcsurrogate.models.build import load_weights
from hpcsurrogate.models.tensor_basis import TensorBasisNet
from hpcsurrogate.physics.hosts import make_host

__all__ = ["run_export", "run_verify", "verify_artifact"]


def run_export(experiment: Experiment, paths: RunPaths) -> None:
    """Write `model.pt` and its checksum `model.pt.sha256`; of a network that has a pointwise form, `pointwise.pt` too;
    the forms of `export.formats`; and `parity.json` over all.

    Parameters
    ----------
    experiment : Experiment
    paths : RunPaths    needs the trained weights, the prepared shards and evaluate.json

    Raises
    ------
    ConfigError          if a form of `export.formats` cannot be made here
    DataError            if one of those is missing or damaged
    ModelRefusedError    if the network cannot be scripted, if the scripted one differs from it by more than 1e-6, or
                         if it returns zeros or non-finite values

    Notes
    -----
    The same weights give the same network in the file; only its metadata names the time and the machine
    (tests/unit/export/test_stage.py). The a-posteriori entry is `unverified` until the closure has run in a solver.
    """
    require_formats(experiment.export.formats)
    network = load_weights(experiment, paths).cpu().eval()
    weights = network.state_dict()  # as trained: the artifact's own type may be another
    dtype = getattr(torch, experiment.export.dtype)
    host = make_host(experiment.host, experiment.flow)
    catalogue = Catalogue.read(paths.prepared)
    golden_input = _golden_input(catalogue, experiment.prepare.split.validation[0]).to(dtype)
    validity = measure_validity(catalogue, experiment.prepare.split.train, host)
    fallback = describe_fallback(experiment, host)
    closure = grid_closure(network, fallback, validity, host.layout, host.grid.spacing).to(dtype)
    scripted = script_module(closure)
    residuals = measure_residuals(scripted, golden_input, host.layout, host.grid.spacing)
    difference = parity(closure, scripted, golden_input)
    metadata = describe_artifact(
        experiment, paths, host, validity, halo_of(network), residuals, hasattr(network, "damping_rates")
    )
    with torch.no_grad():
        golden_output = scripted(golden_input)
    content = artifact_bytes(scripted, metadata, [golden_input], golden_output, weights)
    write_artifact(paths.model, content, metadata)
    get_logger("export").info(
        "wrote %s (%.1f kB), scripted and eager network differ by %.1e", paths.model, len(content) / 1e3, difference
    )
    cells = _write_pointwise(paths, network, metadata, catalogue, experiment.prepare.split.train[0])
    write_forms(experiment.export.formats, paths, {paths.model: closure} | cells, weights)


def _write_pointwise(
    paths: RunPaths, network: nn.Module, metadata: ArtifactMetadata, catalogue: Catalogue, realisation: int
) -> dict[Path, PointwiseClosure]:
    """Write `pointwise.pt` of a network that has that form; the closure by its path, or nothing."""
    # A network without that form must not lie beside the one of another training.
    for stale in (paths.pointwise, manifest_path(paths.pointwise), paths.pointwise.with_suffix(".md")):
        stale.unlink(missing_ok=True)
    if not isinstance(network, TensorBasisNet):
        return {}
    cells = write_pointwise_of_run(paths.pointwise, network.stress, metadata, catalogue, realisation)
    return {paths.pointwise: pointwise_closure(network.stress, cells)}


def _golden_input(catalogue: Catalogue, realisation: int) -> Tensor:
    """The last snapshot of a realisation that training has not seen; whole, since a crop is not periodic."""
    with catalogue.open(realisation, verify=True) as recorded:
        return torch.from_numpy(recorded.snapshot("velocity", -1)).unsqueeze(0)
