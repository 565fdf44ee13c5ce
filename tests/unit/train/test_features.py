"""A network of principal components and scalars, trained on two filters: fitted, resumed and exported."""

import math
import os
import signal
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.core.config import Filter
from hpcsurrogate.core.errors import ConfigError, RequeueRequested
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.data.prepare import run_prepare
from hpcsurrogate.embed.torchscript import quiet_torchscript
from hpcsurrogate.export.stage import run_export
from hpcsurrogate.models.build import build_model, load_weights
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train import losses, phases
from hpcsurrogate.train.features import fit_features, mean_widths
from hpcsurrogate.train.stage import run_train

WIDTH = 2 * math.pi / 16  # the host's cell [m]; the other filter is twice as wide
VISCOSITY = 0.01  # [m^2/s]
NUM_SNAPSHOTS = 16  # of the training realisation
TRAIN = {
    "model": {
        "kind": "cnn", "channels": 4, "hidden_layers": 1, "kernel_size": 3,
        "principal_components": {"patch": 3, "components": 5}, "scalars": ["filter_width", "reynolds_number"],
    },
    "apriori": {"epochs": 2, "batch_size": 4, "learning_rate": 0.01},
    "unrolled": {"iterations": 3, "batch_size": 4, "snapshots": [1], "learning_rate": 0.003},
}  # fmt: skip


@pytest.fixture
def make_wide_run(make_run, prepared_dir):
    """`make_wide_run(name)` -> (experiment, paths) of a run that is prepared with two filters."""

    def make(name="run"):
        experiment, paths = make_run(name, **TRAIN)
        filters = (Filter(kind="box", width_over_spacing=2.0),)
        prepare = experiment.prepare.model_copy(update={"more_filters": filters})
        experiment = experiment.model_copy(update={"prepare": prepare})
        if not paths.raw.exists():
            paths.raw.symlink_to(prepared_dir.parent / "raw")
            run_prepare(experiment, paths, World())
        return experiment, paths

    return make


@pytest.fixture
def trained(make_wide_run):
    experiment, paths = make_wide_run()
    run_train(experiment, paths, World())
    return experiment, paths


def training_velocity(paths):
    """Velocity of the training realisation through both filters, (2 x snapshots, 2, nx, ny) [m/s]."""
    parts = []
    for directory in (paths.prepared, paths.prepared / "filter-1"):
        with Catalogue.read(directory).open(0) as reader:
            parts.append(reader.read("velocity"))
    return torch.from_numpy(np.concatenate(parts))


def widths_of_training():
    return torch.tensor([WIDTH] * NUM_SNAPSHOTS + [2 * WIDTH] * NUM_SNAPSHOTS)


def test_the_weights_hold_what_was_fitted_to_both_filters(trained):
    experiment, paths = trained
    velocity, state = training_velocity(paths), load_file(paths.weights)
    assert velocity.shape == (2 * NUM_SNAPSHOTS, 2, 16, 16)
    assert state["scalars.own_width"].item() == pytest.approx(WIDTH, rel=1e-6)
    assert state["scalars.viscosity"].item() == pytest.approx(VISCOSITY, rel=1e-6)
    # Half of the data have the logarithm of w, half that of 2 w; float32.
    assert state["scalars.mean"][0].item() == pytest.approx(math.log(WIDTH) + math.log(2) / 2, abs=1e-6)
    assert state["scalars.deviation"][0].item() == pytest.approx(math.log(2) / 2, rel=1e-5)
    reynolds = (velocity.square().mean((1, 2, 3)).sqrt() * widths_of_training() / VISCOSITY).log()
    assert state["scalars.mean"][1].item() == pytest.approx(reynolds.mean().item(), rel=1e-5)
    assert state["scalars.deviation"][1].item() == pytest.approx(reynolds.std(correction=0).item(), rel=1e-4)
    # Components of the very data they were fitted to: uncorrelated, mean 0, variance 1 to float32 of 8192 points.
    components = load_weights(experiment, paths).patches(velocity).transpose(0, 1).flatten(1).double()
    assert components.mean(1).abs().max() < 1e-4
    torch.testing.assert_close(torch.cov(components), torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-3)


def test_pairs_of_both_filters_are_trained_on_with_their_widths(make_wide_run, monkeypatch):
    experiment, paths = make_wide_run()
    original, widths = losses.apriori_loss, []

    def watched(closure, *arguments):
        if isinstance(closure, partial):  # in training; validation leaves the width to the network
            widths.extend(closure.keywords["filter_width"].tolist())
        return original(closure, *arguments)

    monkeypatch.setattr(phases, "apriori_loss", watched)
    run_train(experiment, paths, World())
    epochs = TRAIN["apriori"]["epochs"]
    # Each snapshot of each filter once an epoch.
    expected = widths_of_training().repeat(epochs).sort().values.tolist()
    assert sorted(widths) == pytest.approx(expected, rel=1e-6)
    assert widths != sorted(widths)


def test_a_resumed_run_has_the_same_weights_and_the_same_fit(trained, make_wide_run, monkeypatch):
    _, whole = trained
    experiment, paths = make_wide_run("parts")
    original, calls = losses.apriori_loss, []

    def stops(*arguments):
        calls.append(arguments)
        if len(calls) == 10:
            os.kill(os.getpid(), signal.SIGUSR1)
        return original(*arguments)

    with monkeypatch.context() as patched, pytest.raises(RequeueRequested):
        patched.setattr(phases, "apriori_loss", stops)
        run_train(experiment, paths, World())
    run_train(experiment, paths, World())
    one, other = load_file(paths.weights), load_file(whole.weights)
    assert one.keys() == other.keys() and {"patches.kernels", "scalars.mean"} <= one.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_exported_network_is_the_trained_one_with_its_own_width(trained):
    experiment, paths = trained
    scores = [{"name": "learned", "correlation_force": 0.8}]
    write_json_atomic(paths.evaluation, {"target": "commutator", "closures": scores})
    run_export(experiment, paths)
    with quiet_torchscript():
        eager, scripted = load_weights(experiment, paths), torch.jit.load(paths.model)
    velocity = training_velocity(paths)
    expected = eager(velocity)
    scale = expected.abs().max().item()
    # The same kernels on the same weights in float32, fused here and there.
    torch.testing.assert_close(scripted(velocity), expected, rtol=0, atol=1e-5 * scale)
    own = eager(velocity, torch.full((len(velocity),), WIDTH))
    torch.testing.assert_close(own, expected, rtol=0, atol=1e-5 * scale)
    wider = eager(velocity, torch.full((len(velocity),), 2 * WIDTH))
    assert (wider - expected).abs().max() > 1e-3 * scale  # the width matters


def test_mean_widths_are_geometric_means_of_every_realisation_of_every_catalogue():
    def catalogue(*widths):
        return SimpleNamespace(description=lambda number: SimpleNamespace(filter_width=widths[number]))

    catalogues = [catalogue((0.1, 0.4), (0.3, 0.3)), catalogue((1.0, 2.0, 4.0), (5.0, 5.0, 5.0))]
    np.testing.assert_allclose(mean_widths(catalogues, (1, 0)), [0.3, 0.2, 5.0, 2.0], rtol=1e-12)


def test_a_tensor_basis_works_at_the_width_of_the_hosts_own_filter(make_run):
    experiment, _ = make_run(model={"kind": "tensor_basis"})
    module = build_model(experiment.train.model, experiment.host, experiment.flow, None)
    assert module.filter_width.item() == pytest.approx(WIDTH)  # until it is told
    fit_features(module, experiment, SimpleNamespace(filter_widths=np.array([0.7, 1.4])), World())
    assert module.filter_width.item() == pytest.approx(0.7)


def test_a_width_that_is_the_same_everywhere_is_refused(make_run):
    experiment, paths = make_run(**TRAIN | {"model": TRAIN["model"] | {"scalars": ["filter_width"]}})
    with pytest.raises(ConfigError, match=r"train\.model\.scalars: filter_width is the same in all training data"):
        run_train(experiment, paths, World())
    assert not paths.weights.exists()
