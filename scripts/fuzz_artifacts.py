"""Damage artifacts at random, many thousand times: none may load and then answer differently.

An artifact is a file and the checksum beside it. A mutation damages one of the two (`file`, `checksum`); or the file,
whose checksum is then made to fit, as a tool does that copies what it was given (`file+checksum`); or entries of
the archive, which is packed anew by an ordinary zip library and gets a checksum that fits (`entries`). The loader
must refuse it with an error of ours, or every answer must have the same bits: network, guard and classical closure for
harmless and for harmful input, weights and metadata. Other answers, an exception of another kind, a crash of the
process or a hang count as failures.

Who also writes a new seal has made another artifact, against which no checksum helps: `forged` does so, and must not
bring the process down or raise anything but our errors; that some of them answer is told, not counted as failure.

    python scripts/fuzz_artifacts.py --mutations 10000
"""

import argparse
import hashlib
import io
import json
import resource
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from artifact_forgeries import good_artifact, sealed
from fuzz_shards import GOOD, ROOM, flip, outcomes, print_table, splice, truncate

from hpcsurrogate.core.errors import HpcsurrogateError
from hpcsurrogate.embed.archive import EXTRA, METADATA_ENTRY, read_entries
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.export.script import write_artifact

NAME = "model.pt"
MANIFEST = NAME + ".sha256"
ANOTHER = "another model"
Entries = list[tuple[str, bytes]]


def swap(data: bytearray, generator: np.random.Generator) -> bytearray:
    """Two blocks of up to 512 bytes change places."""
    length = int(generator.integers(1, min(513, len(data) // 2)))
    first, second = sorted(generator.integers(0, len(data) - length, 2).tolist())
    second = max(second, first + length)
    head, tail = data[first : first + length], data[second : second + length]
    return data[:first] + tail + data[first + length : second] + head + data[second + length :]


OF_BYTES: tuple[Callable[[bytearray, np.random.Generator], bytearray], ...] = (flip, splice, truncate, swap)


def change_entry(entries: Entries, generator: np.random.Generator) -> Entries:
    """Bytes of one entry."""
    index = int(generator.integers(len(entries)))
    name, entry = entries[index]
    if len(entry) > 2:
        entry = bytes(OF_BYTES[generator.integers(len(OF_BYTES))](bytearray(entry), generator))
    return [*entries[:index], (name, entry), *entries[index + 1 :]]


def edit_metadata(entries: Entries, generator: np.random.Generator) -> Entries:
    """One number or text of the metadata, as an editor leaves it."""
    table = dict(entries)
    metadata = json.loads(table[EXTRA + METADATA_ENTRY])
    places = list(_values(metadata))
    holder, key = places[generator.integers(len(places))]
    value = holder[key]
    is_number = isinstance(value, (int, float))
    holder[key] = type(value)(value * generator.integers(2, 9) + 1) if is_number else f"{value}{generator.integers(10)}"
    table[EXTRA + METADATA_ENTRY] = json.dumps(metadata, indent=2).encode()
    return list(table.items())


def _values(tree: dict | list) -> Iterator[tuple[dict | list, str | int]]:
    """Where each number and text of a tree stands."""
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        if isinstance(tree[key], (dict, list)):
            yield from _values(tree[key])
        else:
            yield tree, key


def remove(entries: Entries, generator: np.random.Generator) -> Entries:
    """One entry is gone."""
    index = int(generator.integers(len(entries)))
    return entries[:index] + entries[index + 1 :]


def exchange(entries: Entries, generator: np.random.Generator) -> Entries:
    """Two entries have each other's content."""
    first, second = generator.integers(0, len(entries), 2).tolist()
    contents = [entry for _, entry in entries]
    contents[first], contents[second] = contents[second], contents[first]
    return [(name, content) for (name, _), content in zip(entries, contents, strict=True)]


def rename(entries: Entries, generator: np.random.Generator) -> Entries:
    """One entry has another's name, or one of its own with a letter changed."""
    index = int(generator.integers(len(entries)))
    name, entry = entries[index]
    other = entries[generator.integers(len(entries))][0]
    place = int(generator.integers(len(name)))
    changed = name[:place] + chr(generator.integers(33, 127)) + name[place + 1 :]
    return [*entries[:index], ((other, changed)[generator.integers(2)], entry), *entries[index + 1 :]]


def repeat(entries: Entries, generator: np.random.Generator) -> Entries:
    """One entry twice, the second time damaged."""
    return entries + [change_entry(entries, generator)[generator.integers(len(entries))]]


def reorder(entries: Entries, generator: np.random.Generator) -> Entries:
    """The same entries in another order."""
    return [entries[index] for index in generator.permutation(len(entries))]


OF_ENTRIES: tuple[Callable[[Entries, np.random.Generator], Entries], ...] = (
    change_entry, edit_metadata, remove, exchange, rename, repeat, reorder,
)  # fmt: skip


def packed(entries: Entries, generator: np.random.Generator) -> bytes:
    """An archive as an ordinary zip library writes it, compressed or not."""
    buffer = io.BytesIO()
    compression = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[generator.integers(2)]
    with zipfile.ZipFile(buffer, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a name that is there twice
        for name, entry in entries:
            archive.writestr(f"archive/{name}", entry)
    return buffer.getvalue()


def mutate(content: bytes, manifest: bytes, number: int) -> tuple[str, str, bytes, bytes]:
    """What is damaged, how, and both files of mutation `number`: a pure function of it."""
    generator = np.random.default_rng([23, number])
    kind = ("file", "checksum", "file+checksum", "entries", "forged")[generator.integers(5)]
    if kind in ("entries", "forged"):
        operation = OF_ENTRIES[generator.integers(len(OF_ENTRIES))]
        entries = operation(list(read_entries(content, NAME).items()), generator)
        content = sealed(entries) if kind == "forged" else packed(entries, generator)
    else:
        operation = OF_BYTES[generator.integers(len(OF_BYTES))]
        if kind == "checksum":
            manifest = bytes(operation(bytearray(manifest), generator))
        else:
            content = bytes(operation(bytearray(content), generator))
    if kind not in ("file", "checksum"):
        manifest = f"{hashlib.sha256(content).hexdigest()}  {NAME}\n".encode()
    return kind, operation.__name__, content, manifest


def answers(path: Path) -> str:
    """Digest of all that the artifact says."""
    artifact = load_artifact(path)
    harmless = artifact.golden_inputs[0].roll((3, 1), dims=(-2, -1))
    harmful = 3 * harmless
    harmful[0, 0, 2, 2] = float("nan")
    digest = hashlib.sha256(artifact.metadata.to_json().encode())
    with torch.no_grad():
        for velocity in (harmless, harmful):
            output, counts = artifact.guarded(velocity)
            for tensor in (output, artifact.classical(velocity)):
                digest.update(tensor.numpy().tobytes())
            digest.update(repr(tuple(counts)).encode())
        digest.update(artifact(harmless).numpy().tobytes())
    for name, weight in sorted(artifact.weights.items()):
        digest.update(name.encode() + weight.numpy().tobytes())
    return digest.hexdigest()


def judge(path: Path, expected: str, is_forged: bool) -> str:
    """What the loader makes of it."""
    try:
        found = answers(path)
    except HpcsurrogateError as error:
        return "refused" if "\n" not in str(error) else "MESSAGE OF SEVERAL LINES"
    except Exception:
        return "EXCEPTION " + traceback.format_exc(limit=-3).replace("\n", " | ")
    if found == expected:
        return "same numbers"
    return ANOTHER if is_forged else "OTHER NUMBERS"


def work(directory: Path, first: int, last: int, channel: Connection) -> None:
    """Do mutations first .. last - 1 and report each; runs in a process of its own, which damage may bring down."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path, manifest_path = directory / NAME, directory / MANIFEST
    content, manifest = path.read_bytes(), manifest_path.read_bytes()
    expected = answers(path)
    for number in range(first, last):
        kind, operation, damaged, damaged_manifest = mutate(content, manifest, number)
        channel.send((number, kind, operation, "begun", ""))
        path.write_bytes(damaged)
        manifest_path.write_bytes(damaged_manifest)
        channel.send((number, kind, operation, "loader", judge(path, expected, kind == "forged")))
    path.write_bytes(content)
    manifest_path.write_bytes(manifest)
    channel.send(None)


def run_campaign(mutations: range, batch: int, keep: Path | None = None) -> int:
    """Do all mutations in processes of `batch` each, print the table; 0 if none loaded and answered differently."""
    counts: Counter[tuple[str, str, str]] = Counter()
    failures, start = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "whole"
        source.mkdir()
        write_artifact(source / NAME, good_artifact())
        content, manifest = (source / NAME).read_bytes(), (source / MANIFEST).read_bytes()
        for first in range(mutations.start, mutations.stop, batch):
            numbers = range(first, min(first + batch, mutations.stop))
            for number, kind, operation, _, outcome in outcomes(source, numbers, work):
                is_known = outcome in (*GOOD, ANOTHER)
                counts[kind, operation, outcome if is_known else outcome.split()[0]] += 1
                if not is_known:
                    failures += 1
                    print(f"mutation {number}: {operation} of {kind}: {outcome}", flush=True)
                    if keep:
                        write_artifact(keep / f"{number}.pt", mutate(content, manifest, number)[2])
    print_table(counts)
    seconds = time.monotonic() - start
    print(f"\n{len(mutations)} mutations in {seconds:.0f} s: {failures} loaded and answered differently, or worse")
    return 1 if failures else 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Damage artifacts at random and load them.")
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation: repeats a single one")
    parser.add_argument("--batch", type=int, default=1000, help="mutations of one process")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep files that were neither refused nor harmless")
    return parser.parse_args()


if __name__ == "__main__":
    options = parse()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    last = options.first + options.mutations
    sys.exit(run_campaign(range(options.first, last), options.batch, options.keep))
