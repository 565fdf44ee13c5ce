"""The ranks of bench_loader.py: every contestant reads the same samples in the same shuffled order, turn by turn.

Started by bench_loader.py under mpirun; reads shards from a directory and writes what it measured as JSON.
"""

# ruff: noqa: E402    (OpenMP reads its environment when torch is imported)

import json
import os
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numcodecs
import numpy as np
import torch

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.core.memory import keep_freed_memory
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.data.loader import WindowLoader
from hpcsurrogate.data.order import SampleOrder
from hpcsurrogate.data.stores.choose import open_store
from hpcsurrogate.data.stores.store import Store
from hpcsurrogate.parallel.world import World, get_world

FIELD = "velocity"
SEED = 7
WORDS_A_PAGE = 1024  # of four bytes: one word of every page is summed within the clock, so that all pages are delivered
CHECKSUM_BYTES = 4  # Fletcher-32 behind every chunk
DECODERS = {
    "gzip": zlib.decompress,
    "zstd": numcodecs.Zstd().decode,
    "blosc": numcodecs.Blosc().decode,
}


class Contestant(Protocol):
    """One way to read samples. `limit` marks one that need not deliver numbers: what it yields is not summed."""

    limit: bool

    def prepare(self, batches: range) -> None:
        """Whatever may be known before the clock starts."""

    def run(self, batches: range) -> Iterator[np.ndarray]:
        """Yield this rank's samples of each batch, (n, words) int32."""


class Shuffled:
    """Which sample comes when, and where its bytes lie: found with h5py alone, for contestants that are not ours."""

    def __init__(self, catalogue: Catalogue, world: World, batch_size: int):
        self.world, self.batch_size, self.share = world, batch_size, batch_size // world.size
        self.paths, places = [], []
        for realisation in catalogue.realisations:
            for shard in catalogue.entry(realisation).shards:
                path = catalogue.path(shard)
                places += [(len(self.paths), i, *chunk) for i, chunk in enumerate(_chunks(path))]
                self.paths.append(path)
        self.places = np.array(places, dtype=np.int64)
        self.order = SampleOrder(len(places), SEED)

    def batch(self, number: int) -> np.ndarray:
        """(file, index, offset, bytes in the file) of this rank's samples of a batch, shape (share, 4)."""
        first = number * self.batch_size + self.world.rank * self.share
        return self.places[self.order.at(np.arange(first, first + self.share))]

    def open(self) -> list[int]:
        """A descriptor of every file; the process keeps them to its end."""
        return [os.open(path, os.O_RDONLY) for path in self.paths]


def _chunks(path: Path) -> list[tuple[int, int]]:
    with h5py.File(path, "r") as file:
        array = file[f"t1_fields/{FIELD}"]
        chunks = [(0, 0)] * array.shape[1]

        def remember(info: h5py.h5d.StoreInfo) -> None:
            chunks[info.chunk_offset[1]] = info.byte_offset, info.size

        array.id.chunk_iter(remember)
    return chunks


class RawPread:
    """The limit of plain data: positions are known before, each sample is one preadv into the same buffer."""

    limit = False

    def __init__(self, shuffled: Shuffled, sample_bytes: int):
        self._shuffled, self._files = shuffled, shuffled.open()
        buffer = np.empty((shuffled.share, sample_bytes), dtype=np.uint8)
        self._rows, self._words = [memoryview(row) for row in buffer], buffer.view(np.int32)
        self._plans: dict[int, tuple[list[int], list[int]]] = {}

    def prepare(self, batches: range) -> None:
        self._plans.clear()
        for number in batches:
            file, _, offset, _ = self._shuffled.batch(number).T
            self._plans[number] = [self._files[i] for i in file], offset.tolist()

    def run(self, batches: range) -> Iterator[np.ndarray]:
        preadv = os.preadv
        for number in batches:
            for file, offset, row in zip(*self._plans[number], self._rows, strict=True):
                preadv(file, (row,), offset)
            yield self._words


class BareDecompressor:
    """The limit of compressed data: the codec alone, on bytes in memory; no file, no checksum, no unshuffle."""

    limit = True

    def __init__(self, shuffled: Shuffled, compression: str, threads: int, stack: ExitStack):
        self._shuffled, self._files, self._decode = shuffled, shuffled.open(), DECODERS[compression]
        self._pool = stack.enter_context(ThreadPoolExecutor(threads))
        self._stored: dict[int, list[bytes]] = {}

    def prepare(self, batches: range) -> None:
        for number in batches:
            places = self._shuffled.batch(number)[:, [0, 2, 3]].tolist()
            self._stored[number] = [os.pread(self._files[f], size - CHECKSUM_BYTES, at) for f, at, size in places]

    def run(self, batches: range) -> Iterator[np.ndarray]:
        for number in batches:
            for plain in self._pool.map(self._decode, self._stored.pop(number)):
                yield np.frombuffer(plain, dtype=np.int32)[None]


class PlainH5py:
    """What one writes first: `dataset[i]` on open files."""

    limit = False

    def __init__(self, shuffled: Shuffled, stack: ExitStack):
        self._shuffled = shuffled
        files = [stack.enter_context(h5py.File(path, "r")) for path in shuffled.paths]
        self._arrays = [file[f"t1_fields/{FIELD}"] for file in files]

    def prepare(self, batches: range) -> None:
        """Nothing is known before."""

    def run(self, batches: range) -> Iterator[np.ndarray]:
        for number in batches:
            samples = [self._arrays[file][0, i] for file, i, _, _ in self._shuffled.batch(number).tolist()]
            yield np.stack(samples).reshape(len(samples), -1).view(np.int32)


class Loader:
    """Batches as training gets them: torch tensors in channels-last order, made by the background thread."""

    limit = False

    def __init__(self, loader: WindowLoader):
        self._loader = loader

    def prepare(self, batches: range) -> None:
        """Nothing is known before."""

    def run(self, batches: range) -> Iterator[np.ndarray]:
        endless = self._loader.batches(batches.start)
        for _ in batches:
            _, batch = next(endless)
            samples = batch.pop(FIELD)[:, 0].permute(0, 2, 3, 1).numpy()  # as in the file: component last
            yield samples.reshape(len(samples), -1).view(np.int32)
            del samples  # done with: its memory may take the next ones
        endless.close()


def make_loader(store: Store, batch_size: int, world: World) -> WindowLoader:
    """Single snapshots, in the order of the file's memory."""
    return WindowLoader(store, 0, batch_size, world, SEED, fields=(FIELD,), memory_format="channels_last")


def warm_up(world: World, store: Store) -> float:
    """Seconds in which every rank reads all samples once: afterwards all checksums have been compared."""
    loader = make_loader(store, 1, World())
    return run_turn(world, Loader(loader), range(loader.num_windows), WORDS_A_PAGE)[0]


def run_turn(world: World, contestant: Contestant, batches: range, step: int) -> tuple[float, int | None]:
    """Seconds of the slowest rank, and the sum of every step-th word over all ranks."""
    contestant.prepare(batches)
    world.barrier()
    total, start = 0, time.perf_counter()
    for words in contestant.run(batches):
        total += int(words[:, ::step].sum(dtype=np.int64))
        del words
    seconds = time.perf_counter() - start
    total = sum(world.allgather(total))
    return max(world.allgather(seconds)), None if contestant.limit else total


def run_round(
    world: World, contestants: dict[str, Contestant], batches: range, step: int, cold: Shuffled | None = None
) -> dict[str, float]:
    """Seconds of a turn of each contestant.

    Raises
    ------
    RuntimeError    if two of them read different numbers
    """
    seconds, sums = {}, {}
    for name, contestant in contestants.items():
        if cold:
            drop_cache(cold)
        seconds[name], sums[name] = run_turn(world, contestant, batches, step)
    if len(set(sums.values()) - {None}) != 1:
        raise RuntimeError(f"the contestants read different samples: {sums}")
    return seconds


def drop_cache(shuffled: Shuffled) -> None:
    """Take the shards out of the page cache."""
    if shuffled.world.rank == 0:
        for path in shuffled.paths:
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)
    shuffled.world.barrier()


def resident_memory(world: World) -> int:
    """Bytes of all ranks together; what several map counts once."""
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return sum(world.allgather(int(line.split()[1]) * 1024))
    raise RuntimeError("/proc/self/smaps_rollup: no line Pss")


def measure(world: World, settings: dict) -> dict:
    """All turns of one directory.

    Returns
    -------
    dict    seconds: contestant -> one number a round; samples of a turn; memory: store -> bytes of all ranks;
            first_pass: store -> seconds in which every rank reads all samples once, checksums compared; num_samples
    """
    catalogue = Catalogue.read(settings["directory"], world)
    batch_size = settings["batch"] * world.size
    shuffled = Shuffled(catalogue, world, batch_size)
    with ExitStack() as stack:
        contestants: dict[str, Contestant] = {}
        if settings["compression"] == "none":
            contestants["pread"] = RawPread(shuffled, settings["sample_bytes"])
        else:
            limit = BareDecompressor(shuffled, settings["compression"], settings["threads"], stack)
            contestants["decompressor"] = limit
        contestants["dataset[i]"] = PlainH5py(shuffled, stack)
        memory, first_pass = {}, {}
        for kind in settings["stores"]:
            before = resident_memory(world)
            store = open_store(catalogue, catalogue.realisations, (FIELD,), world, kind, settings["threads"])
            stack.enter_context(store)
            contestants[kind] = Loader(make_loader(store, batch_size, world))
            first_pass[kind] = warm_up(world, store)
            memory[kind] = resident_memory(world) - before
        epoch = range(-(-len(shuffled.places) // batch_size))
        run_round(world, contestants, epoch, step=1)
        num_batches = max(1, settings["turn_samples"] // batch_size)
        cold = shuffled if settings["cold"] else None
        rounds = [
            run_round(world, contestants, range(i * num_batches, (i + 1) * num_batches), WORDS_A_PAGE, cold)
            for i in range(settings["rounds"])
        ]
    return {
        "seconds": {name: [seconds[name] for seconds in rounds] for name in contestants},
        "samples": num_batches * batch_size,
        "memory": memory,
        "first_pass": first_pass,
        "num_samples": len(shuffled.places),
    }


def main(settings_file: str, result_file: str) -> None:
    """Run what the settings say; rank 0 writes the result."""
    torch.set_num_threads(1)
    keep_freed_memory()
    world = get_world()
    result = measure(world, json.loads(Path(settings_file).read_text(encoding="utf-8")))
    if world.rank == 0:
        write_json_atomic(result_file, result)


if __name__ == "__main__":
    main(*sys.argv[1:])
