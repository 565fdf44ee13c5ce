"""Which store is chosen for which sizes, by numbers that the test makes up."""

import logging

import pytest

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.data.stores import choose
from hpcsurrogate.data.stores.choose import NodeMemory, choose_kind, open_store, without_mpi
from hpcsurrogate.data.stores.node import NodeStore
from hpcsurrogate.data.stores.stream import StreamStore
from hpcsurrogate.parallel.world import World

MIB = 2**20
LARGE, SMALL = NodeMemory(2, 100 * MIB, 200 * MIB), NodeMemory(2, 60 * MIB, 200 * MIB)


@pytest.mark.parametrize(
    ("size", "nodes", "expected"),
    [
        (50, [LARGE], "node"),
        (51, [LARGE], "stream"),  # one node: what does not fit there fits nowhere
        (30, [LARGE, SMALL], "node"),
        (31, [LARGE, SMALL], "cluster"),
        (60, [LARGE, SMALL], "cluster"),  # each rank holds a quarter, so the small node half
        (61, [LARGE, SMALL], "stream"),
        (60, [LARGE, NodeMemory(1, 60 * MIB, 0)], "cluster"),  # the small node has a third of the ranks
        (50, [NodeMemory(2, 100 * MIB, 40 * MIB)], "stream"),  # as in a container with little /dev/shm
        (50, [NodeMemory(1, 100 * MIB, 0)], "node"),  # a process alone shares with nobody
    ],
)
def test_auto_takes_half_of_the_free_memory(size, nodes, expected):
    kind, reason = choose_kind("auto", size * MIB, nodes, can_fetch=True)
    assert kind == expected
    assert f"{size} MiB of samples" in reason


def test_auto_does_without_cluster_if_mpi_cannot_serve_threads_and_says_so():
    kind, reason = choose_kind("auto", 40 * MIB, [LARGE, SMALL], can_fetch=False)
    assert kind == "stream" and "not `cluster`: this MPI" in reason


@pytest.mark.parametrize(("kind", "fits", "too_large"), [("node", 60, 61), ("cluster", 120, 121)])
def test_what_was_asked_for_may_take_all_and_no_more(kind, fits, too_large):
    assert choose_kind(kind, fits * MIB, [LARGE, SMALL], can_fetch=True)[0] == kind
    with pytest.raises(ConfigError, match=f"train.store: {kind} does not fit: {too_large} MiB of samples; room for 60"):
        choose_kind(kind, too_large * MIB, [LARGE, SMALL], can_fetch=True)


@pytest.mark.parametrize("kind", ["node", "cluster"])
def test_ranks_without_mpi_share_no_memory(kind):
    assert without_mpi("auto")[0] == without_mpi("stream")[0] == "stream"
    with pytest.raises(ConfigError, match=f"train.store: {kind} needs ranks of MPI.*set `train.store: stream`"):
        without_mpi(kind)


def test_ranks_without_mpi_read_from_files(write_shards, monkeypatch):
    directory, _ = write_shards()
    monkeypatch.setattr(choose, "free_memory", None)  # nobody asks
    world = World(is_mpi=False)
    with open_store(Catalogue.read(directory), (0, 1), ("velocity",), world) as store:
        assert type(store) is StreamStore
    with pytest.raises(ConfigError, match="node needs ranks of MPI"):
        open_store(Catalogue.read(directory), (0, 1), ("velocity",), world, "node")


def test_stream_fits_always():
    assert choose_kind("stream", 10**15, [SMALL], can_fetch=False)[0] == "stream"


@pytest.mark.parametrize(("free", "expected"), [(100 * MIB, NodeStore), (1, StreamStore)])
def test_the_choice_is_opened_and_said_in_the_log(write_shards, monkeypatch, caplog, free, expected):
    directory, _ = write_shards()
    monkeypatch.setattr(choose, "free_memory", lambda: free)
    with (
        caplog.at_level(logging.INFO, "hpcsurrogate"),
        open_store(Catalogue.read(directory), (0, 1), ("velocity",), World()) as store,
    ):
        assert type(store) is expected
    (record,) = caplog.records
    kind = expected.__name__.removesuffix("Store").lower()
    assert f"store {kind} for 2 realisations: 0 MiB of samples" in record.getMessage()


def test_a_store_that_does_not_fit_is_refused_before_memory_is_taken(write_shards, monkeypatch):
    directory, _ = write_shards()
    monkeypatch.setattr(choose, "free_memory", lambda: 1)
    monkeypatch.setattr(choose, "NodeStore", None)
    with pytest.raises(ConfigError, match="train.store: node does not fit"):
        open_store(Catalogue.read(directory), (0, 1), ("velocity",), World(), "node")
