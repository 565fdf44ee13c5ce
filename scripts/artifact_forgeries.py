"""Artifacts that must be refused before torch loads them, made from a good one: what whoever wishes harm might write.

Each is sealed and gets a fitting checksum, so that nothing but a look at what it holds tells it from a good one.
"""

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from hpcsurrogate.core.metadata import ArtifactMetadata
from hpcsurrogate.embed.archive import EXTRA, SEAL_ENTRY, read_entries, seal
from hpcsurrogate.export.grid_closure import GridClosure
from hpcsurrogate.export.script import artifact_bytes, script_module
from hpcsurrogate.models.quadratic_stencil import QuadraticStencilNet

SIZE = 64  # numbers in the file that a forgery writes
MANY = 30_000  # calls of a function by itself that no stack has room for

_PORT = {"components": ["x", "y"], "layout": "staggered", "axes": "bcxy"}
METADATA = {
    "schema_version": 2, "name": "forged", "kind": "grid", "dtype": "float32",
    "inputs": [_PORT | {"field": "velocity", "unit": "m/s"}],
    "outputs": [_PORT | {"field": "commutator", "unit": "m/s^2"}],
    "filter": {"kind": "face_average", "width": 0.1},
    "host": {"kind": "finite_volume", "order": 2, "grid_spacing": [0.1, 0.1], "time_step": 0.01},
    "validity": {"velocity_magnitude": [0.0, 8.0], "gradient_magnitude": [0.0, 80.0]},
    "halo": 5, "fallback": {"kind": "smagorinsky", "constant": 0.17, "width": 0.1},
    "training_data_digest": "0" * 64, "config_digest": "0" * 64, "provenance": {"version": "0"},
    "certificate": {"residuals": {"momentum": 1e-7}, "a_priori": {}, "a_posteriori": "unverified"},
}  # fmt: skip


class Forgery(NamedTuple):
    """An artifact and a word of the message that refuses it."""

    content: bytes
    reason: str


# A class whose state is restored by code of its own, which torch runs while it loads the file.
AT_LOAD = """
class WritesAtLoad(Module):
  __parameters__ = []
  __buffers__ = []
  factor : float
  def forward(self: __torch__.WritesAtLoad,
    velocity: Tensor) -> Tensor:
    return torch.mul(velocity, self.factor)
  def __getstate__(self: __torch__.WritesAtLoad) -> str:
    return "state"
  def __setstate__(self: __torch__.WritesAtLoad,
    state: str) -> NoneType:
    self.factor = float(torch.sum(torch.from_file(state, True, 64)))
    return None
"""


def good_artifact() -> bytes:
    """A small network that nobody has trained, with its guard, golden vectors and weights: all that an artifact has."""
    torch.manual_seed(0)
    metadata = ArtifactMetadata.from_json(json.dumps(METADATA))
    network = QuadraticStencilNet(0.1, channels=2, output_channels=2)
    closure = GridClosure(network, metadata.fallback, metadata.validity, "staggered", (0.1, 0.1))
    velocity = torch.randn(1, 2, 8, 8)
    with torch.no_grad():
        return artifact_bytes(script_module(closure), metadata, [velocity], closure(velocity), network.state_dict())


class Opener:
    """What pickle would call when it reads an object of this kind."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def sealed(entries: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of these entries, which may have any names, with the seal that fits."""
    entries = [(name, entry) for name, entry in entries if name != EXTRA + SEAL_ENTRY]
    entries.append((EXTRA + SEAL_ENTRY, seal(dict(entries))))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, entry in entries:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a name that is there twice
                archive.writestr(zipfile.ZipInfo("archive/" + name), entry, compression)
    return buffer.getvalue()


def with_changed(good: bytes, name: str, entry: bytes) -> bytes:
    """The good one with one entry replaced or added."""
    return sealed((read_entries(good, "good") | {name: entry}).items())


def code_entry(good: bytes) -> str:
    """Name of the entry that holds the code."""
    return next(name for name in read_entries(good, "good") if name.endswith(".py"))


def with_statement(good: bytes, *statements: str) -> bytes:
    """The good one with statements at the start of `forward`."""
    name = code_entry(good)
    code = read_entries(good, "good")[name].decode("ascii")
    head, colon, rest = code.partition("-> Tensor:\n")
    lines = "".join(f"    {statement}\n" for statement in statements)
    return with_changed(good, name, (head + colon + lines + rest).encode("latin-1"))


def written_at_load(good: bytes, canary: Path) -> bytes:
    """An archive that writes the canary as soon as torch loads it."""
    path = str(canary).encode()
    state = b"X" + len(path).to_bytes(4, "little") + path
    changed = {
        "code/__torch__.py": AT_LOAD.lstrip().encode(),
        "data.pkl": b"\x80\x02c__torch__\nWritesAtLoad\n)\x81" + state + b"b.",
    }
    return sealed((read_entries(good, "good") | changed).items())


def statements(canary: Path) -> dict[str, tuple[list[str], str]]:
    """Code that does more than a closure does: name -> statements, and a word of the message."""
    path = f'"{canary}"'
    # Used, since torch drops what nobody asks for.
    use = "velocity = torch.add(velocity, torch.sum({}))".format
    return {
        "maps a file": ([use(f"torch.from_file({path}, True, {SIZE})")], "torch.from_file"),
        "maps a file, as a method": ([use(f"{path}.from_file(True, {SIZE})")], "not understood"),
        "maps a file, as a method of a name": ([f"_p = {path}", use(f"_p.from_file(True, {SIZE})")], "_p.from_file"),
        "maps a file, in parentheses": ([use(f"({path}).from_file(True, {SIZE})")], "not understood"),
        "maps a file, by another namespace": ([use(f"ops.aten.from_file({path}, True, {SIZE})")], "ops.aten.from_file"),
        "saves": ([f"_x = torch.save(velocity, {path})"], "torch.save"),
        "prints": (['print("hello")'], "print"),
        "prints, called by another name": (["_f = (print)", '_f("hello")'], "_f"),
        "prints, called in parentheses": (['(print)("hello")'], "may not be called"),
        "warns": (['torch.warn("hello", 2)'], "torch.warn"),
        "starts a thread": (["_x = fork(self, velocity)"], "fork"),
        "names a module alone": (["_x = torch"], "torch"),
        "asks for an attribute": (['_x = getattr(self, "facts")'], "getattr"),
        "calls a method": (["_x = (self).classical(velocity)"], "not understood"),
        "makes an object": (["_x = __torch__.torch.classes.quantized.Linear(velocity)"], "__torch__.torch"),
        "changes the input": (["_x = torch.fill_(velocity, 0)"], "torch.fill_"),
        "writes into the input": (["_x = torch.mul(velocity, 0, out=velocity)"], "'out' may not stand here"),
        "writes into the input by another name": (
            ["_x = torch.max(velocity, 0, max=velocity, max_values=velocity)"],
            "'max' may not stand here",
        ),
        "loops for ever": (["while True:", "  pass"], "while"),
        "loops": (["for i in range(9):", "  pass"], "for"),
        "hides in a comment": (["# comment"], "not understood"),
        "hides in a long text": (['_x = """a', '"""'], "not understood"),
        "hides in another kind of quotes": (["_x = 'a'"], "not understood"),
        "is not ASCII": (["_\xe4 = 1"], "ASCII"),
        "joins lines": (["_x = \\", "1"], "not understood"),
        "ends a number early": (['_x = 1.from_file("a")'], "not understood"),
        "uses a hidden name": (["__x = 1"], "__x"),
        "exhausts the stack by parentheses": (["_x = " + MANY * "(" + "1" + MANY * ")"], "too deep"),
        "exhausts the stack by brackets": (["_x = " + MANY * "[" + "1" + MANY * "]"], "too deep"),
        "exhausts the stack by signs": (["_x = " + MANY * "-" + "1"], "'-' may not stand here"),
        "exhausts the stack by negations": (["_x = " + MANY * "not " + "True"], "not"),
        "exhausts the stack by sums": (["_x = 1" + MANY * " + 1"], "not understood"),
        "exhausts the stack by differences": (["_x = 1" + MANY * " -1"], "'-' may not stand here"),
        "exhausts the stack by conditions": (["_x = 1" + MANY * " if True else 1"], "'if' may not stand here"),
        "exhausts the stack by indices": (["_y = [1]", "_x = _y" + MANY * "[0]"], r"'\[' may not stand here"),
        "exhausts the stack by names": (["_x = annotate(__torch__" + MANY * ".a" + ", 1)"], "__torch__.a.a"),
        "exhausts the stack by indentation": ([i * " " + "if True:" for i in range(100)], "spaces in a row"),
        "takes long to read": (20 * ['_x = "' + 60_000 * "a" + '"'], "larger than"),
    }


def entries(good: bytes, canary: Path) -> dict[str, tuple[bytes, str]]:
    """Archives with entries that do not belong there: name -> content, and a word of the message."""
    whole = list(read_entries(good, "good").items())
    without_pickle = [item for item in whole if item[0] != "data.pkl"]
    bomb = [*without_pickle, ("data.pkl", bytes(50_000_000))]
    broken = [(name, entry) for name, entry in whole if name != EXTRA + SEAL_ENTRY]
    unsealed = io.BytesIO()
    with zipfile.ZipFile(unsealed, "w") as archive:
        for name, entry in broken:
            archive.writestr("archive/" + name, entry)
    data, constants = (read_entries(good, "good")[name] for name in ("data.pkl", "constants.pkl"))
    long_storage = data.replace(b"K\x80tQ", b"J\x00\x00\x00\x40tQ", 1)  # 2^30 numbers in the place of 128
    stored = data[: data.index(b"tQ") + 4]  # up to the first storage, which is remembered
    far_tensor = stored + b"J\x00\x00\x00\x40" + data.removeprefix(stored + b"K\x00")
    return {
        "a tensor with more bytes than its entry": (with_changed(good, "data.pkl", long_storage), "as its entry"),
        "a tensor outside of its storage": (with_changed(good, "data.pkl", far_tensor), "beyond its storage"),
        "a tensor on another device": (
            with_changed(good, "data.pkl", data.replace(b"\x03\0\0\0cpu", b"\x04\0\0\0meta", 1)),
            "not what torch writes",
        ),
        "a constant with steps over its storage": (
            with_changed(good, "constants.pkl", constants.replace(b"(K\x32K\x19", b"(J\0\0\0\x40K\x19", 1)),
            "beyond its storage",
        ),
        "a list that holds itself": (
            with_changed(good, "constants.pkl", b"\x80\x02]q\x00h\x00a\x85."),
            "not what torch writes",
        ),
        "values nested many times": (
            with_changed(good, "constants.pkl", b"\x80\x02)" + MANY * b"\x85" + b"."),
            "nests deeper",
        ),
        "room for many values": (
            with_changed(good, "constants.pkl", b"\x80\x02Nr\xff\xff\xff\x7f."),
            "not what torch writes",
        ),
        "code outside its folder": (sealed([*whole, ("code/other.py", b"")]), "code/other.py"),
        "code under a name that climbs": (sealed([*whole, ("code/__torch__/../x.py", b"")]), "climbs|none that"),
        "an absolute name": (sealed([*whole, ("/etc/passwd", b"")]), "none that"),
        "the format before this one": (sealed([*whole, ("model.json", b"{}")]), "model.json"),
        "bytecode": (sealed([*whole, ("bytecode.pkl", b"")]), "bytecode.pkl"),
        "an entry twice": (sealed([*whole, whole[0]]), "twice"),
        "an entry twice, in capitals": (sealed([*whole, ("DATA.PKL", b"")]), "DATA.PKL"),
        "entries larger than the file": (sealed(bomb, zipfile.ZIP_DEFLATED), "claim"),
        "no seal": (unsealed.getvalue(), SEAL_ENTRY),
        "the other format": (good[:4] + b"PTMF" + good[8:], "no TorchScript archive"),
        "nothing": (b"", "no TorchScript archive"),
        "no archive": (b"no archive at all", "no TorchScript archive"),
        "a pickle that opens a file": (
            with_changed(good, "data.pkl", pickle.dumps(Opener(str(canary)), protocol=2)),
            "open",
        ),
        "a pickle of a registered class": (
            with_changed(good, "data.pkl", b"\x80\x02c__torch__.torch.classes.rnn\nCellParamsBase\n."),
            "CellParamsBase",
        ),
        "a pickle with an unknown opcode": (with_changed(good, "data.pkl", b"\x80\x02\x95\x00."), "opcode"),
        "a pickle cut off": (with_changed(good, "data.pkl", b"\x80\x02X\xff\xff\xff\xff"), "cut off"),
        "a pickle that goes on": (with_changed(good, "data.pkl", b"\x80\x02N.N."), "goes on"),
    }


def forgeries(good: bytes, canary: Path) -> dict[str, Forgery]:
    """All of them; those that write a file write `canary`."""
    found = {"code that runs at load": Forgery(written_at_load(good, canary), "__getstate__")}
    for name, (lines, reason) in statements(canary).items():
        found[f"code that {name}"] = Forgery(with_statement(good, *lines), reason)
    for name, (content, reason) in entries(good, canary).items():
        found[name] = Forgery(content, reason)
    return found
