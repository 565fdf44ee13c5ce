"""The train stage on real prepared data, one process."""

import dataclasses
import json
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from hpcsurrogate.core.errors import ConfigError, DataError, DivergedError, ModelRefusedError, RequeueRequested
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train import losses, phases
from hpcsurrogate.train.phases import AprioriPhase, UnrolledPhase, steps_per_snapshot
from hpcsurrogate.train.stage import run_train, training_digest


def records(paths):
    return [json.loads(line) for line in paths.metrics.read_text().splitlines()]


def validation_losses(paths, phase):
    return [r["validation_loss"] for r in records(paths) if r["phase"] == phase and "validation_loss" in r]


def assert_equal_weights(one, other):
    one, other = load_file(one.weights), load_file(other.weights)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def stop_at(monkeypatch, loss_name, call):
    """Send SIGUSR1 to this process while the loss is evaluated for the call-th time."""
    original, calls = getattr(losses, loss_name), []

    def counted(*arguments):
        calls.append(loss_name)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGUSR1)
        return original(*arguments)

    monkeypatch.setattr(phases, loss_name, counted)


def test_both_phases_reduce_the_validation_loss(make_run):
    experiment, paths = make_run(
        model={"kind": "quadratic_stencil", "channels": 1},
        apriori={"epochs": 6, "batch_size": 4, "learning_rate": 0.01},
        unrolled={"iterations": 40, "batch_size": 4, "snapshots": [1, 2], "learning_rate": 0.01},
    )
    run_train(experiment, paths, World())
    # 1 is no closure at all. The commutator of a second-order scheme is mostly its own truncation error, a sum of
    # products of derivatives, which this network can represent: it must explain half of it on a flow it has not seen.
    apriori, unrolled = validation_losses(paths, "apriori"), validation_losses(paths, "unrolled")
    assert min(apriori) < 0.7 * apriori[0]
    assert min(unrolled) < 0.5
    assert min(unrolled) < 0.9 * unrolled[0]


def test_the_record_has_what_the_report_reads(make_run):
    experiment, paths = make_run()
    run_train(experiment, paths, World())
    lines = records(paths)
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert [line["window"] for line in lines if line["phase"] == "unrolled"] == [1] * 6 + [2] * 6
    assert all("window" not in line for line in lines if line["phase"] == "apriori")


def test_the_same_run_twice_gives_the_same_file(make_run):
    written = []
    for name in ("first", "second"):
        experiment, paths = make_run(name)
        run_train(experiment, paths, World())
        written.append(paths.weights.read_bytes())
    assert written[0] == written[1]
    with safe_open(paths.weights, "pt") as file:
        assert set(file.metadata()) == {"statistics", "config_digest"}
        assert json.loads(file.metadata()["statistics"]) == json.loads(paths.statistics.read_text())


@pytest.mark.parametrize("loss_name, call", [("apriori_loss", 10), ("unrolled_loss", 8)])
def test_a_requeued_run_equals_an_uninterrupted_one_bit_for_bit(make_run, monkeypatch, loss_name, call):
    whole_experiment, whole = make_run("whole")
    run_train(whole_experiment, whole, World())
    experiment, paths = make_run("parts")
    with monkeypatch.context() as patched, pytest.raises(RequeueRequested):
        stop_at(patched, loss_name, call)
        run_train(experiment, paths, World())
    assert not paths.weights.exists()
    run_train(experiment, paths, World())
    assert_equal_weights(paths, whole)
    kept = ("phase", "step", "epoch", "loss", "validation_loss", "learning_rate", "gradient_norm", "window")
    assert [{name: line.get(name) for name in kept} for line in records(paths)] == [
        {name: line.get(name) for name in kept} for line in records(whole)
    ]


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(make_run, monkeypatch):
    whole_experiment, whole = make_run("whole")
    run_train(whole_experiment, whole, World())
    experiment, paths = make_run("parts")
    with monkeypatch.context() as patched, pytest.raises(RequeueRequested):
        stop_at(patched, "apriori_loss", 10)
        run_train(experiment, paths, World())
    newest = max(paths.checkpoints.glob("step-*"))
    weights = newest / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    run_train(experiment, paths, World())
    assert_equal_weights(paths, whole)


def test_checkpoints_of_another_learning_rate_are_refused_and_of_another_interval_are_not(make_run):
    experiment, paths = make_run()
    run_train(experiment, paths, World())
    run_train(make_run(checkpoint_every=7)[0], paths, World())
    apriori = {"epochs": 5, "batch_size": 4, "learning_rate": 0.02}
    with pytest.raises(ModelRefusedError, match="change run_dir") as error:
        run_train(make_run(apriori=apriori)[0], paths, World())
    assert error.value.exit_code == 5


def test_the_threads_of_a_rank_belong_to_an_exact_training_alone(make_run):
    statistics, digests = {}, set()
    for exact in (False, True):
        experiment, _ = make_run(exact=exact)
        more_threads = experiment.model_copy(update={"threads_per_rank": 2})
        pair = {training_digest(experiment, statistics), training_digest(more_threads, statistics)}
        assert len(pair) == 1 + exact
        digests |= pair
    assert len(digests) == 3


def test_a_training_starts_from_what_another_has_learned_and_remembers_from_which_file(make_run):
    short = {"epochs": 1, "batch_size": 4, "learning_rate": 0.01}
    experiment, first = make_run("first", apriori=short, unrolled={"iterations": 0})
    run_train(experiment, first, World())
    transfer = {"path": str(first.weights), "frozen": ["layers.0.*"], "learning_rates": {"layers.1.*": 0.5}}
    experiment, second = make_run("second", initialise_from=transfer, unrolled={"iterations": 0})
    run_train(experiment, second, World())
    before, after = load_file(first.weights), load_file(second.weights)
    assert torch.equal(before["layers.0.weight"], after["layers.0.weight"])
    assert not torch.equal(before["layers.1.weight"], after["layers.1.weight"])
    shutil.copy(second.weights, first.weights)
    with pytest.raises(ModelRefusedError, match="change run_dir"):
        run_train(experiment, second, World())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_as_well_as_single(make_run, precision):
    best = []
    for kind in ("float32", precision):
        experiment, paths = make_run(kind, precision=kind, unrolled={"iterations": 4, "batch_size": 4})
        run_train(experiment, paths, World())
        best.append(min(validation_losses(paths, "apriori")))
    # Losses of order one; a bfloat16 keeps three digits of every number in the network.
    assert best[1] == pytest.approx(best[0], rel=0.05)
    assert best[1] != best[0]


def test_a_training_in_parts_equals_one_in_whole_batches(make_run):
    lines = []
    for parts in (1, 4):
        experiment, paths = make_run(f"in-{parts}", accumulate=parts, unrolled={"iterations": 0})
        run_train(experiment, paths, World())
        lines.append([line["loss"] for line in records(paths)])
    # Round-off of single precision, which twenty steps of Adam at a hundredth enlarge little.
    assert lines[1] == pytest.approx(lines[0], rel=1e-4)


@pytest.mark.parametrize(
    "train, match",
    [
        ({"accumulate": 3}, "train.apriori.batch_size: 4 is no multiple of 3"),
        ({"exact": True}, "train.apriori.batch_size: 4 is no multiple of 8, train.virtual_shards"),
        ({"exact": True, "virtual_shards": 4, "precision": "float16"}, "train.precision: float16 cannot be had"),
    ],
)
def test_parts_that_cannot_be_are_refused(make_run, train, match):
    with pytest.raises(ConfigError, match=match):
        run_train(*make_run(**train), World())


def test_a_training_that_diverges_ends_with_code_4_and_writes_no_weights(make_run):
    # A rate this large sends the weights to 1e30, whose squares no float32 holds.
    apriori = {"epochs": 5, "batch_size": 4, "learning_rate": 1e30}
    experiment, paths = make_run(apriori=apriori)
    with pytest.raises(DivergedError, match="phase apriori, step") as error:
        run_train(experiment, paths, World())
    assert error.value.exit_code == 4
    assert not paths.weights.exists()


def test_every_store_trains_the_same_weights_and_may_be_changed_on_the_way(make_run, monkeypatch):
    written = []
    for store in ("stream", "node", "auto"):
        experiment, paths = make_run(store, store=store)
        run_train(experiment, paths, World())
        written.append(paths.weights.read_bytes())
    assert written[0] == written[1] == written[2]
    experiment, paths = make_run("parts", store="stream")
    with monkeypatch.context() as patched, pytest.raises(RequeueRequested):
        stop_at(patched, "unrolled_loss", 3)
        run_train(experiment, paths, World())
    run_train(make_run("parts", store="node")[0], paths, World())
    assert load_file(paths.weights).keys() and paths.weights.read_bytes() == written[0]


def test_splits_that_are_not_alike_are_refused(make_run):
    experiment, paths = make_run()
    catalogue = Catalogue.read(paths.prepared)
    changed = [catalogue.entry(number) for number in catalogue.realisations]
    changed[1] = dataclasses.replace(changed[1], snapshot_interval=0.2)
    Catalogue(paths.prepared, changed).write()
    with pytest.raises(DataError, match="snapshot_interval is 0.1 in realisation 0 and 0.2 in 1"):
        run_train(experiment, paths, World())


def test_no_thread_and_no_file_is_left_behind(make_run):
    experiment, paths = make_run(store="stream")
    run_train(experiment, paths, World())
    assert [thread.name for thread in threading.enumerate() if thread.name == "prefetch"] == []
    open_files = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
    assert not [path for path in open_files if path.startswith(os.path.realpath(paths.prepared))]


@pytest.mark.parametrize("target, galilean", [("commutator", 0.0), ("sgs_force", 0.5)])
def test_augmentation_changes_the_batches_and_not_what_is_resumed(make_run, monkeypatch, target, galilean):
    augmentation = {"rotations": True, "reflections": True, "translations": True, "galilean": galilean}
    apriori = {"target": target, "epochs": 5, "batch_size": 4, "learning_rate": 0.01}
    run = {"unrolled": {"iterations": 0}, "apriori": apriori | {"augmentation": augmentation}}
    plain = make_run("plain", unrolled={"iterations": 0}, apriori=apriori)
    run_train(*plain, World())
    whole = make_run("whole", **run)
    run_train(*whole, World())
    assert records(plain[1])[0]["loss"] != records(whole[1])[0]["loss"]
    experiment, paths = make_run("parts", **run)
    with monkeypatch.context() as patched, pytest.raises(RequeueRequested):
        stop_at(patched, "apriori_loss", 10)
        run_train(experiment, paths, World())
    run_train(experiment, paths, World())
    assert_equal_weights(paths, whole[1])


def test_a_galilean_shift_of_the_commutator_is_refused(make_run):
    with pytest.raises(ConfigError, match="train.apriori.augmentation.galilean: the commutator"):
        run_train(*make_run(apriori={"augmentation": {"galilean": 0.5}}), World())


def test_either_phase_can_be_left_out(make_run):
    for name, section in (("apriori", {"epochs": 0}), ("unrolled", {"iterations": 0})):
        experiment, paths = make_run(name, **{name: section | {"batch_size": 4}})
        run_train(experiment, paths, World())
        assert name not in {line["phase"] for line in records(paths)}
        assert paths.weights.exists()


@pytest.mark.parametrize(
    "kind, name, left_out",
    [(AprioriPhase, "apriori", {"epochs": 0}), (UnrolledPhase, "unrolled", {"iterations": 0})],
)
def test_the_batch_of_a_phase_that_is_left_out_need_not_divide(make_run, kind, name, left_out):
    experiment, _ = make_run(**{name: left_out | {"batch_size": 5}})
    arguments = (None, World(size=2), None, *([1.0] if name == "apriori" else []))
    assert kind(experiment, *arguments).num_iterations == 0


def test_the_stress_force_can_be_the_target(make_run):
    experiment, paths = make_run(
        apriori={"target": "sgs_force", "epochs": 2, "batch_size": 4}, unrolled={"iterations": 0}
    )
    run_train(experiment, paths, World())
    assert len(validation_losses(paths, "apriori")) == 2


def test_a_gpu_that_is_not_there_is_an_error(make_run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    experiment, paths = make_run(device="cuda")
    with pytest.raises(ConfigError, match="train.device"):
        run_train(experiment, paths, World())


def test_a_time_step_must_divide_the_snapshot_interval():
    assert steps_per_snapshot(0.1, 0.0125) == 8
    with pytest.raises(ConfigError, match=r"host.time_step: 0.03 s does not divide .*; 0.025") as error:
        steps_per_snapshot(0.1, 0.03)
    assert error.value.exit_code == 2
