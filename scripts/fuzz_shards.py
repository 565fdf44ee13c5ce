"""Damage shards and catalogue at random, many thousand times: no damage may yield different numbers silently.

Every mutation flips bits of, splices into, or truncates one file of a small data directory, which is then read in three
ways: through the catalogue with SHA-256 verified, through the catalogue without, and by the store that streams from
files. Each must refuse the directory with an error of ours or return exactly the numbers that were written. Anything
else counts as a failure: other numbers, an exception of another kind, a crash of the process, a hang.

    python scripts/fuzz_shards.py --mutations 100000
"""

import argparse
import hashlib
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from hpcsurrogate.core.errors import HpcsurrogateError
from hpcsurrogate.data.catalogue import FILE_NAME, Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.shards import ShardHeader, ShardWriter
from hpcsurrogate.data.stores.stream import StreamStore

BLOCKS = ((0, 0, 3, "none"), (0, 3, 2, "none"), (1, 0, 4, "gzip"))  # realisation, first snapshot, number, compression
FIELDS = ("velocity", "sgs_stress")
GRID = (8, 6)
HANG = 30.0  # seconds after which a reader is given up
ROOM = 2**31  # bytes that a reader may allocate: a size declared in a damaged file must not be believed
GOOD = ("refused", "same numbers")


def write_directory(directory: Path) -> None:
    """Two realisations of random numbers, one of them in two shards, one compressed."""
    generator = np.random.default_rng(0)
    records = []
    for realisation, first, number, compression in BLOCKS:
        path = directory / shard_name(realisation, first)
        parameters = {"viscosity": 1e-3, "drag": 0.1}
        header = ShardHeader(
            "fuzz", realisation, number, 0.1, GRID, (1.0, 2.0), "staggered", "box", (0.1, 0.2), parameters,
            first_snapshot=first,
        )  # fmt: skip
        with ShardWriter(path, header, FIELDS, compression=compression) as shard:
            for _ in range(number):
                shard.append({name: _values(generator, name) for name in FIELDS})
        records.append(catalogue_shard(path))
    Catalogue.from_shards(directory, records).write()


def _values(generator: np.random.Generator, name: str) -> np.ndarray:
    return generator.standard_normal((2 if name == "velocity" else 3, *GRID)).astype(np.float32)


def read_catalogued(directory: Path, verify: bool) -> str:
    """Digest of every number that a reader of realisations sees."""
    catalogue = Catalogue.read(directory)
    digest = hashlib.sha256(repr(catalogue.realisations).encode())
    for realisation in catalogue.realisations:
        with catalogue.open(realisation, verify=verify) as reader:
            header = reader.header
            numbers = (header.realisation, header.num_snapshots, header.grid_shape, header.domain, header.layout,
                       header.filter_kind, header.filter_width, sorted(header.parameters.items()))  # fmt: skip
            digest.update(repr(numbers).encode() + np.asarray(reader.times).tobytes())
            for name in FIELDS:
                digest.update(np.ascontiguousarray(reader.read(name)).tobytes())
    return digest.hexdigest()


def read_streamed(directory: Path) -> str:
    """Digest of every snapshot that the streaming store yields, the last one of each realisation first."""
    catalogue = Catalogue.read(directory)
    intervals = [catalogue.entry(realisation).snapshot_interval for realisation in catalogue.realisations]
    digest = hashlib.sha256(repr(intervals).encode())
    for realisation in catalogue.realisations:  # one at a time: the shards of a store are compressed alike
        with StreamStore(catalogue, (realisation,), FIELDS) as store:
            snapshots = np.arange(store.table.num_snapshots)[::-1].copy()
            for name in FIELDS:
                out = np.empty((len(snapshots), *store.shape(name)), store.dtype(name))
                store.read(name, snapshots, out)
                digest.update(out.tobytes())
    return digest.hexdigest()


READERS: dict[str, Callable[[Path], str]] = {
    "verified": lambda directory: read_catalogued(directory, verify=True),
    "unverified": lambda directory: read_catalogued(directory, verify=False),
    "streamed": read_streamed,
}


def flip(data: bytearray, generator: np.random.Generator) -> bytearray:
    """One to eight bits, anywhere."""
    for position in generator.integers(0, 8 * len(data), generator.integers(1, 9)).tolist():
        data[position // 8] ^= 1 << (position % 8)
    return data


def splice(data: bytearray, generator: np.random.Generator) -> bytearray:
    """Up to 512 bytes from elsewhere in the file, of noise or of zeros, over others of the same number."""
    length = int(generator.integers(1, 513))
    target, origin = generator.integers(0, max(1, len(data) - length), 2).tolist()
    source = (bytes(data[origin : origin + length]), generator.bytes(length), bytes(length))[generator.integers(3)]
    data[target : target + length] = source[: len(data) - target]
    return data


def truncate(data: bytearray, generator: np.random.Generator) -> bytearray:
    """Cut off the end; half of the time fill it with zeros, as a disk does that lost its cache."""
    keep = int(generator.integers(0, len(data)))
    return data[:keep] + bytes((len(data) - keep) * int(generator.integers(2)))


OPERATIONS = (flip, splice, truncate)


def mutate(originals: dict[str, bytes], number: int) -> tuple[str, str, bytes]:
    """File, operation and new content of mutation `number`: a pure function of it."""
    generator = np.random.default_rng([17, number])
    name = sorted(originals)[generator.integers(len(originals))]
    operation = OPERATIONS[generator.integers(len(OPERATIONS))]
    return name, operation.__name__, bytes(operation(bytearray(originals[name]), generator))


def judge(reader: Callable[[Path], str], directory: Path, expected: str) -> str:
    """What a reader makes of a directory."""
    try:
        return "same numbers" if reader(directory) == expected else "OTHER NUMBERS"
    except HpcsurrogateError as error:
        return "refused" if "\n" not in str(error) else "MESSAGE OF SEVERAL LINES"
    except Exception:
        return "EXCEPTION " + traceback.format_exc(limit=-3).replace("\n", " | ")


def work(directory: Path, first: int, last: int, channel: Connection) -> None:
    """Do mutations first .. last - 1 and report each; runs in a process of its own, which damage may bring down."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    expected = {name: reader(directory) for name, reader in READERS.items()}
    originals = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    for number in range(first, last):
        name, operation, content = mutate(originals, number)
        channel.send((number, name, operation, "begun", ""))
        (directory / name).write_bytes(content)
        for kind, reader in READERS.items():
            channel.send((number, name, operation, kind, judge(reader, directory, expected[kind])))
        (directory / name).write_bytes(originals[name])
    channel.send(None)


def outcomes(
    directory: Path, mutations: range, work: Callable[[Path, int, int, Connection], None] = work
) -> Iterator[tuple[int, str, str, str, str]]:
    """(mutation, file, operation, reader, outcome) of all mutations, whatever becomes of the processes that do them."""
    first = mutations.start
    while first < mutations.stop:
        scratch = Path(tempfile.mkdtemp(dir=directory.parent))
        shutil.copytree(directory, scratch, dirs_exist_ok=True)
        receiver, sender = multiprocessing.Pipe(duplex=False)
        arguments = (scratch, first, mutations.stop, sender)
        process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
        process.start()
        sender.close()
        latest = (first, "", "", "", "")
        first = mutations.stop
        try:
            while receiver.poll(HANG):
                message = receiver.recv()
                if message is None:
                    break
                latest = message
                if message[3] != "begun":
                    yield message
            else:
                process.kill()
                yield (*latest[:3], "any", "HANG")
                first = latest[0] + 1
        except EOFError:
            process.join()
            code = process.exitcode
            reason = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
            yield (*latest[:3], "any", f"CRASH {reason}")
            first = latest[0] + 1
        process.join()
        shutil.rmtree(scratch)


def run_campaign(mutations: range, directory: Path, keep: Path | None) -> int:
    """Do all mutations, print the table; 0 if each was refused or harmless."""
    source = directory / "whole"
    source.mkdir()
    write_directory(source)
    originals = {path.name: path.read_bytes() for path in source.iterdir()}
    counts: Counter[tuple[str, str, str]] = Counter()
    failures = []
    start = time.monotonic()
    for number, name, operation, reader, outcome in outcomes(source, mutations):
        place = "catalogue" if name == FILE_NAME else "shard"
        counts[f"{operation} {place}", reader, outcome.split()[0] if outcome not in GOOD else outcome] += 1
        if outcome not in GOOD:
            failures.append({"mutation": number, "file": name, "operation": operation, "reader": reader,
                             "outcome": outcome})  # fmt: skip
            print(f"mutation {number}: {operation} of {name}, {reader}: {outcome}", flush=True)
            if keep:
                (keep / f"{number}-{name}").write_bytes(mutate(originals, number)[2])
    print_table(counts)
    seconds = time.monotonic() - start
    print(f"\n{len(mutations)} mutations in {seconds:.0f} s: {len(failures)} neither refused nor harmless")
    return 1 if failures else 0


def print_table(counts: Counter) -> None:
    """How often which reader made what of which damage."""
    kinds = sorted({outcome for _, _, outcome in counts}, key=lambda outcome: (outcome not in GOOD, outcome))
    print(f"\n{'damage':<22}{'reader':<12}" + "".join(f"{kind:>16}" for kind in kinds))
    for damage, reader in sorted({(damage, reader) for damage, reader, _ in counts}):
        print(f"{damage:<22}{reader:<12}" + "".join(f"{counts[damage, reader, kind]:>16}" for kind in kinds))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Damage shards and catalogue at random and read them.")
    parser.add_argument("--mutations", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation: repeats a single one")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep files that were neither refused nor harmless")
    return parser.parse_args()


if __name__ == "__main__":
    options = parse()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run_campaign(range(options.first, options.first + options.mutations), Path(folder), options.keep))
