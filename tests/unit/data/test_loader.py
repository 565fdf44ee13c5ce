"""The loader: right windows, the same order for any number of ranks, every validation snapshot predicted once."""

import itertools
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hpcsurrogate.core.config import Augmentation
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.data.augment import Augmenter
from hpcsurrogate.data.loader import WindowLoader
from hpcsurrogate.parallel.world import World

LENGTHS = (7, 5)
GRID = (6, 4)
CHANNELS_LAST = {"memory_format": "channels_last"}


class ArrayStore:
    """Snapshots in plain memory, in file layout; remembers what it was asked for."""

    def __init__(self, lengths=LENGTHS, grid=GRID, dtype="float32"):
        self.table = SimpleNamespace(lengths=np.array(lengths), realisations=tuple(range(len(lengths))))
        generator, num_dims = np.random.default_rng(0), len(grid)
        ranks = {"pressure": 0, "velocity": 1, "commutator": 1, "sgs_stress": 2}
        self.arrays = {
            name: generator.standard_normal((sum(lengths), *grid, *(num_dims,) * rank)).astype(dtype)
            for name, rank in ranks.items()
        }
        stress = self.arrays["sgs_stress"]
        stress += stress.swapaxes(-1, -2)
        self.epochs, self.fail_from = 0, None
        self.asked, self.expected = [], []

    def shape(self, field):
        return self.arrays[field].shape[1:]

    def dtype(self, field):
        return self.arrays[field].dtype

    def read(self, field, snapshots, out):
        if self.fail_from is not None and snapshots.max() >= self.fail_from:
            raise DataError("realisation-0001.hdf5: checksum differs")
        self.asked.append((field, snapshots.tolist()))
        out[...] = self.arrays[field][snapshots]

    def expect(self, field, snapshots):
        self.expected.append((field, snapshots.tolist()))

    def new_epoch(self):
        self.epochs += 1


def loader_of(store, rank=0, size=1, window=2, batch_size=4, seed=3, **options):
    return WindowLoader(store, window, batch_size, World(rank=rank, size=size), seed, **options)


def first_batches(loader, number, first=0):
    batches = loader.batches(first)
    taken = list(itertools.islice(batches, number))
    batches.close()
    return taken


def place(window_tcxy, store):
    """(realisation, first snapshot) of a window, found by its values; fails if it is no window of the data."""
    velocity = np.moveaxis(store.arrays["velocity"], -1, 1)
    for first in range(len(velocity) - len(window_tcxy) + 1):
        if np.array_equal(velocity[first : first + len(window_tcxy)], window_tcxy):
            realisation = int(first >= LENGTHS[0])
            return realisation, first - realisation * LENGTHS[0]
    raise AssertionError("a window that is not in the data")


def places(batches, store):
    return [place(window.numpy(), store) for batch in batches for window in batch["velocity"]]


# --- which windows, in which order -----------------------------------------------------------------------------------


def test_every_window_of_single_realisations_comes_once_an_epoch():
    store = ArrayStore()
    loader = loader_of(store)
    batches = first_batches(loader, 4)
    assert loader.num_windows == 8 and loader.steps_per_epoch == 2  # 5 + 3 windows of three snapshots
    assert [epoch for epoch, _ in batches] == [0, 0, 1, 1]
    _, batch = batches[0]
    assert batch["velocity"].shape == batch["commutator"].shape == (4, 3, 2, *GRID)
    expected = [(0, first) for first in range(5)] + [(1, first) for first in range(3)]
    orders = [places([batch for _, batch in part], store) for part in (batches[:2], batches[2:])]
    assert sorted(orders[0]) == sorted(orders[1]) == expected and orders[0] != orders[1]
    realisation, first = orders[0][0]
    first += realisation * LENGTHS[0]
    commutator = np.moveaxis(store.arrays["commutator"][first : first + 3], -1, 1)
    np.testing.assert_array_equal(batch["commutator"][0], commutator)


def test_epochs_run_on_through_batches_which_are_all_full():
    store = ArrayStore()
    for batch_size in (3, 5, 20):
        batches = first_batches(loader_of(store, batch_size=batch_size), 8)
        assert all(len(batch["velocity"]) == batch_size for _, batch in batches)
        assert [epoch for epoch, _ in batches] == [k * batch_size // 8 for k in range(8)]
        order = places([batch for _, batch in batches], store)
        for epoch in range(batch_size):
            assert len(set(order[8 * epoch : 8 * epoch + 8])) == 8
    assert loader_of(store, batch_size=5).steps_per_epoch == 2


def test_the_order_depends_on_the_seed_and_not_on_how_much_is_done_at_once(monkeypatch):
    store = ArrayStore()
    order = places([batch for _, batch in first_batches(loader_of(store), 20)], store)
    for stretch_bytes, positions_at_once in ((1, 9), (10_000, 9), (10_000, 1)):
        monkeypatch.setattr("hpcsurrogate.data.loader.STRETCH_BYTES", stretch_bytes)
        monkeypatch.setattr("hpcsurrogate.data.loader.POSITIONS_AT_ONCE", positions_at_once)
        assert places([batch for _, batch in first_batches(loader_of(store), 20)], store) == order
    assert places([batch for _, batch in first_batches(loader_of(store), 20)], store) == order
    assert places([batch for _, batch in first_batches(loader_of(store, seed=4), 20)], store) != order


@pytest.mark.parametrize("size", [2, 4])
def test_the_joined_batches_of_all_ranks_are_those_of_one(size):
    store = ArrayStore()
    ranks = [first_batches(loader_of(store, rank, size, batch_size=12), 5) for rank in range(size)]
    for step, (epoch, batch) in enumerate(first_batches(loader_of(store, batch_size=12), 5)):
        joined = torch.cat([batches[step][1]["velocity"] for batches in ranks])
        assert torch.equal(joined, batch["velocity"])
        assert {batches[step][0] for batches in ranks} == {epoch}


def test_a_resumed_run_goes_on_where_it_was():
    store = ArrayStore()
    whole = places([batch for _, batch in first_batches(loader_of(store, batch_size=3), 30)], store)
    for first in (1, 2, 7, 29):
        rest = first_batches(loader_of(store, batch_size=3), 30 - first, first)
        assert places([batch for _, batch in rest], store) == whole[3 * first :]


@pytest.mark.parametrize(("window", "size"), [(0, 1), (0, 3), (2, 1), (2, 3), (2, 12)])
def test_validation_predicts_every_snapshot_once_over_all_shards(window, size):
    """With sizes that the shards do not divide, and with more shards than windows."""
    store = ArrayStore()
    loader = loader_of(store, window=window, batch_size=size)
    seen = [found for shard in range(size) for found in places(loader.validation(shard, size), store)]
    # A single snapshot is its own target; of a longer window all but the first are.
    first_target = min(window, 1)
    targets = [(number, first + i) for number, first in seen for i in range(first_target, window + 1)]
    expected = [(number, index) for number, length in enumerate(LENGTHS) for index in range(first_target, length)]
    assert sorted(targets) == expected


def test_a_global_mean_from_sums_is_exact():
    store = ArrayStore()
    total = count = 0.0
    for rank in range(3):
        for batch in loader_of(store, rank, 3, window=0, batch_size=6).validation(rank, 3):
            assert len(batch["velocity"]) <= 2
            total += batch["velocity"].double().sum().item()
            count += batch["velocity"].numel()
    everything = store.arrays["velocity"].astype(np.float64)
    assert count == everything.size
    assert total / count == pytest.approx(everything.mean(), abs=1e-14)  # round-off of 576 numbers of order one


# --- what a batch is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("grid", [(6, 4), (4, 6, 2)])
@pytest.mark.parametrize("window", [0, 2])
def test_a_batch_holds_the_numbers_of_the_store_with_components_first(memory_format, dtype, grid, window):
    store = ArrayStore(grid=grid, dtype=dtype)
    fields = ("pressure", "velocity", "sgs_stress")
    loader = loader_of(store, window=window, batch_size=3, fields=fields, memory_format=memory_format)
    (batch,) = itertools.islice(loader.validation(0, 1), 1)
    for name in fields:
        values = store.arrays[name]
        if name == "pressure":
            values = values[..., None]
        if name == "sgs_stress":
            pairs = itertools.combinations_with_replacement(range(len(grid)), 2)
            values = np.stack([values[..., i, j] for i, j in pairs], axis=-1)
        # Validation windows touch: the first begins at snapshot 0, the next `window` later.
        windows = np.stack([values[i : i + window + 1] for i in np.arange(len(batch[name])) * max(window, 1)])
        expected = torch.from_numpy(np.moveaxis(windows, -1, 2).astype(np.float32))
        assert batch[name].dtype == torch.float32
        assert torch.equal(batch[name], expected)
        fastest_first = batch[name] if memory_format == "contiguous" else batch[name].movedim(2, -1)
        assert fastest_first.is_contiguous()


def test_channels_last_is_the_memory_that_the_store_wrote_into(monkeypatch):
    store, written = ArrayStore(), []
    read = store.read
    monkeypatch.setattr(store, "read", lambda field, snapshots, out: (written.append(out), read(field, snapshots, out)))
    (batch,) = itertools.islice(loader_of(store, window=0, fields=("velocity",), **CHANNELS_LAST).validation(0, 1), 1)
    assert batch["velocity"].data_ptr() == written[0].ctypes.data


def test_a_batch_is_not_written_to_again_while_it_is_held():
    store = ArrayStore()
    batches = loader_of(store, batch_size=2, **CHANNELS_LAST).batches()
    held = [next(batches)[1]["velocity"] for _ in range(20)]
    copies = [batch.clone() for batch in held]
    for _ in range(20):
        next(batches)
    assert all(torch.equal(batch, copy) for batch, copy in zip(held, copies, strict=True))


def test_augmentation_is_a_function_of_the_position_and_leaves_validation_alone():
    store = ArrayStore()
    fields = ("velocity", "commutator")
    settings = Augmentation(rotations=True, reflections=True, translations=True)
    augment = Augmenter(settings, fields, GRID, (1.5, 1.0), "staggered", seed=3)
    options = {"window": 0, "batch_size": 6, "fields": fields}
    plain = first_batches(loader_of(store, **options), 8)
    turned = first_batches(loader_of(store, augment=augment, **options), 8)
    for step, ((_, before), (_, after)) in enumerate(zip(plain, turned, strict=True)):
        samples = {name: values[:, 0].movedim(1, -1).contiguous().numpy() for name, values in before.items()}
        expected = augment.apply(augment.draw(np.arange(6 * step, 6 * step + 6)), samples)
        for name in fields:
            np.testing.assert_array_equal(after[name][:, 0].movedim(1, -1), expected[name])
    assert not torch.equal(plain[0][1]["velocity"], turned[0][1]["velocity"])
    # Shared by ranks and taken up again, each sample is turned as before.
    rest = first_batches(loader_of(store, rank=1, size=2, augment=augment, **options), 1, first=5)
    assert torch.equal(rest[0][1]["velocity"], turned[5][1]["velocity"][3:])
    for one, other in zip(
        loader_of(store, augment=augment, **options).validation(0, 1),
        loader_of(store, **options).validation(0, 1),
        strict=True,
    ):
        assert torch.equal(one["velocity"], other["velocity"])


@pytest.mark.parametrize("window", [0, 2])
def test_the_width_of_its_realisation_comes_with_each_window(window):
    store, widths = ArrayStore(), np.array([0.1, 0.3])
    options = {"window": window, "batch_size": 6, "filter_widths": widths}
    for _, batch in first_batches(loader_of(store, **options), 5):
        expected = [widths[place(sample.numpy(), store)[0]] for sample in batch["velocity"]]
        torch.testing.assert_close(batch["filter_width"], torch.tensor(expected, dtype=torch.float32), rtol=0, atol=0)
        assert len(set(expected)) == 2
    whole = first_batches(loader_of(store, **options), 1)[0][1]
    half = first_batches(loader_of(store, rank=1, size=2, **options), 1)[0][1]
    assert torch.equal(half["filter_width"], whole["filter_width"][3:])
    # Validated with the network's own width.
    assert all("filter_width" not in batch for batch in loader_of(store, **options).validation(0, 1))


# --- the thread, and what cannot be ----------------------------------------------------------------------------------


def test_the_store_is_told_of_every_epoch_and_a_damaged_shard_reaches_the_consumer(monkeypatch):
    store = ArrayStore()
    monkeypatch.setattr("hpcsurrogate.data.loader.STRETCH_BYTES", 1)
    first_batches(loader_of(store, window=0, batch_size=12), 3)
    assert 3 <= store.epochs <= 6  # batches made ahead included
    store.fail_from = LENGTHS[0]
    with pytest.raises(DataError, match=r"realisation-0001\.hdf5: checksum differs"):
        list(loader_of(store).batches())
    assert all(thread.name != "prefetch" for thread in threading.enumerate())


@pytest.mark.parametrize("window", [0, 2])
def test_without_a_thread_the_store_is_told_of_the_next_windows_before_a_batch_is_handed_out(monkeypatch, window):
    monkeypatch.setattr("hpcsurrogate.data.loader.STRETCH_BYTES", 1)  # batches are made one at a time
    store = ArrayStore()
    batches = loader_of(store, window=window, background=False).batches()
    for number in range(1, 12):  # several epochs
        next(batches)
        assert len(store.asked) == len(store.expected) == 2 * number  # two fields
    batches.close()
    assert store.expected[:-2] == store.asked[2:]


@pytest.mark.parametrize("window", [0, 2])
def test_a_thread_makes_the_same_batches(window):
    store = ArrayStore()

    def threads():
        return [thread.name for thread in threading.enumerate()].count("prefetch")

    def taken(background):
        loader = loader_of(store, window=window, background=background)
        batches = loader.batches(3)
        found = [next(batches) for _ in range(20)]
        running = threads()
        batches.close()
        return running, found, list(loader.validation(0, 1))

    (none, plain, plain_validation), (one, ahead, ahead_validation) = taken(False), taken(True)
    assert (none, one, threads()) == (0, 1, 0)
    assert [epoch for epoch, _ in plain] == [epoch for epoch, _ in ahead]
    pairs = zip(
        [batch for _, batch in plain] + plain_validation, [batch for _, batch in ahead] + ahead_validation, strict=True
    )
    for expected, batch in pairs:
        assert all(torch.equal(batch[name], expected[name]) for name in ("velocity", "commutator"))


def test_what_cannot_be_is_said_in_one_line():
    store = ArrayStore()
    with pytest.raises(ConfigError, match="batch_size 4 is no multiple of the 3 ranks"):
        loader_of(store, size=3)
    with pytest.raises(ConfigError, match="realisation 1 has 5 snapshots, a window needs 6"):
        loader_of(store, window=5)
    augment = Augmenter(Augmentation(rotations=True), ("velocity",), GRID, (1.5, 1.0), "staggered", seed=3)
    with pytest.raises(ConfigError, match=r"train.apriori.augmentation: only single snapshots"):
        loader_of(store, augment=augment)
