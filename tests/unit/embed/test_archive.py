"""What an archive may hold: every network of ours passes, everything that it has no need of is refused."""

import hashlib
import io
import re
import zipfile

import pytest
import torch

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.embed.archive import EXTRA, SEAL_ENTRY, check_archive, check_seal, read_entries
from hpcsurrogate.embed.archive_code import check_code, rules
from hpcsurrogate.embed.torchscript import quiet_torchscript
from hpcsurrogate.export.archive_file import pack
from hpcsurrogate.export.grid_closure import GridClosure
from hpcsurrogate.export.script import artifact_bytes, script_module
from hpcsurrogate.models.cnn import PeriodicCnn
from hpcsurrogate.models.features import PrincipalPatches, ScalarChannels
from hpcsurrogate.models.quadratic_stencil import QuadraticStencilNet

SCALARS = ("filter_width", "reynolds_number")
NETWORKS = {
    "quadratic_stencil": lambda: QuadraticStencilNet(0.1, 2, 2),
    "cnn": lambda: PeriodicCnn(3, 2, 3, 1.0, 1.0, PrincipalPatches(3, 4), ScalarChannels(SCALARS), 0.1),
}


def load(content: bytes):
    with quiet_torchscript():
        return torch.jit.load(io.BytesIO(content))


def a_class(*statements: str) -> bytes:
    """Code of a network with these statements in `forward`."""
    head = "class Net(Module):\n  __parameters__ = []\n  __buffers__ = []\n"
    lines = "".join(f"    {statement}\n" for statement in statements)
    return f"{head}  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n{lines}    return x\n".encode()


@pytest.mark.parametrize("layout", ["staggered", "collocated"])
@pytest.mark.parametrize("name", NETWORKS)
def test_all_our_networks_pass(metadata, golden_input, name, layout):
    closure = GridClosure(NETWORKS[name](), metadata.fallback, metadata.validity, layout, (0.1, 0.1))
    with torch.no_grad():
        content = artifact_bytes(script_module(closure), metadata, [golden_input], closure(golden_input))
    assert f"{EXTRA}{SEAL_ENTRY}" in check_archive(content, "model.pt")


def test_forgeries_are_refused_by_name_in_one_line_and_nothing_is_run(artifact_forgeries, good, tmp_path):
    canary = tmp_path / "canary"
    messages = {}
    for name, forgery in artifact_forgeries.forgeries(good, canary).items():
        with pytest.raises(ModelRefusedError) as refusal:
            check_archive(forgery.content, "model.pt")
        messages[name] = (str(refusal.value), forgery.reason)
    assert len(messages) > 40
    assert [name for name, (message, reason) in messages.items() if not re.search(reason, message)] == []
    assert [name for name, (message, _) in messages.items() if "\n" in message or "model.pt: " not in message] == []
    assert not canary.exists()


def test_statements_that_a_closure_makes_pass(artifact_forgeries, good):
    innocent = (
        '_a = "# \' torch.save(x, \\"y\\") while @ {} \\\\"',
        "_b = torch.mul(velocity, -1.0000000000000001e-30)",
        "_c = torch.nan_to_num(velocity, nan, inf, -inf)",
        "_d = annotate(List[Tensor], [velocity, CONSTANTS.c0])",
        "_e = [(torch.size(velocity))[0], 1., 2]",
        "if torch.gt(_e[0], 0):",
        "  pass",
        "else:",
        '  ops.prim.RaiseException("AssertionError: ", "builtins.ValueError")',
    )
    content = artifact_forgeries.with_statement(good, *innocent)
    check_archive(content, "model.pt")
    velocity = torch.randn(1, 2, 8, 8)
    assert torch.equal(load(content)(velocity), load(good)(velocity))  # torch reads the same code


def test_the_list_holds_operators_of_torch_that_change_nothing_but_lists():
    schemas = {}
    for schema in torch._C._jit_get_all_schemas():
        schemas.setdefault(schema.name, []).append(schema)
    listed = [name.replace("torch.", "aten::").removeprefix("ops.prim.") for name in rules().operators]
    listed = [name if name.startswith("aten::") else f"prim::{name}" for name in listed]
    assert [name for name in listed if name not in schemas] == []
    writing = {
        name
        for name in listed
        for schema in schemas[name]
        for argument in schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write and not argument.kwarg_only
    }
    assert writing == {"aten::append"}


def test_a_flipped_bit_in_a_weight_would_load_but_is_refused_by_the_seal(good):
    weight = read_entries(good, "model.pt")["constants/0"]
    content = bytearray(good)
    content[content.index(weight) + 2] ^= 1
    changed = load(bytes(content))
    velocity = torch.randn(1, 2, 8, 8)
    assert not torch.equal(changed(velocity), load(good)(velocity))
    with pytest.raises(ModelRefusedError, match="constants/0 was changed after the export"):
        check_archive(bytes(content), "model.pt")


@pytest.mark.parametrize("change", ["removed", "added"])
def test_the_seal_names_what_was_removed_or_added(good, change):
    entries = read_entries(good, "model.pt")
    name = "extra/weights.safetensors" if change == "removed" else "constants/99"
    entries = {key: entry for key, entry in entries.items() if key != name}
    if change == "added":
        entries[name] = b""
    with pytest.raises(ModelRefusedError, match=f"{name} was changed"):
        check_seal(entries, "model.pt")


def test_the_seal_is_what_sha256sum_writes(good):
    entries = read_entries(good, "model.pt")
    lines = entries[EXTRA + SEAL_ENTRY].decode().splitlines()
    assert lines == [
        f"{hashlib.sha256(entries[name]).hexdigest()}  {name}"
        for name in sorted(entries)
        if not name.endswith(SEAL_ENTRY)
    ]


def test_a_name_that_differs_in_its_case_alone_is_the_same_entry(good):
    """torch finds either; which one is not for the file to choose."""
    entries = read_entries(good, "model.pt")
    code = next(name for name in entries if name.endswith(".py"))
    other = code.replace("hpcsurrogate", "HPCsurrogate")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, entry in [*entries.items(), (other, b"")]:
            archive.writestr(f"archive/{name}", entry)
    with pytest.raises(ModelRefusedError, match="twice"):
        check_archive(buffer.getvalue(), "model.pt")


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("torch.save (x)", "torch.save"),
        ("_x = torch\n      .save(x)", "not understood"),
        ("_x = torch. save(x)", "not understood"),
        ("_x = torch", "'torch'"),
        ("_x = CONSTANTS.c0(x)", "CONSTANTS.c0"),
        ("_x = CONSTANTS.other", "CONSTANTS.other"),
        ("_x = __torch__.Net(x)", "__torch__.Net"),
        ("_x = torch.ops.aten.save(x)", "torch.ops.aten.save"),
        ("_x = ops.prim.Print(x)", "ops.prim.Print"),
        ("_x = (x)(x)", r"'\)' may not"),
        ("_x = [x](x)", r"'\]' may not"),
        ('_x = "a"(x)', "may not be called"),
        ('_x = "a""b"', "not understood"),
        ("_x = 1(x)", "'1' may not be called"),
        ("_x = 1.e", "not understood"),
        ("_x = 0x1f", "not understood"),
        ("import os", "import"),
        ("with x:", "with"),
        ("def f(x)", None),
        ("class F(Enum):", "'F' is no module"),
        ("class torch.F(Module):", "torch.F"),
        ("_x: __torch__.__main__.F = x", "__main__"),
        ("_x = x\t", "0x09"),
        ("_x = x\r", "0x0d"),
        ("_x = x\x00", "0x00"),
        ('_x = "unfinished', "not understood"),
        ("_x = torch.zeros([3], dtype=4, layout=None, device=ops.prim.device(x))", None),
        ("_x = torch.mul(x, x, out=x)", "'out' may not stand here"),
        ("_x = torch.mul(x, x, out = x)", "'out' may not stand here"),
        ("_x = torch.mul(x, x,\n      out=x)", "'out' may not stand here"),
        ("_x = torch.max(x, 0, False, max=x, max_values=x)", "'max' may not stand here"),
        ("_x = torch.std_mean(x, out0=x, out1=x)", "'out0' may not stand here"),
        ("out, _x = torch.mul(x, x), 1", None),
        ("_x = [-1, -inf, - 1.e-5]", None),
        ("_x = 1 - 1", "'-' may not stand here"),
        ("_x = 1 -1", "'-' may not stand here"),
        ("_x = --1", "'-' may not stand here"),
        ("_x = -x", "'-' may not stand here"),
        ("_x = 1 + 1", "not understood"),
        ("_x = 1 > 1", "not understood"),
        ("_x = x == x", "'=' may not stand here"),
        ("_x = not True", "'not'"),
        ("_x = 1 if True else 2", "'if' may not stand here"),
        ("_x = (1\n if True\n else 2)", "'if' may not stand here"),
        ("_x = (torch.size(x))[0]", None),
        ("_x = y[0][0]", r"'\[' may not stand here"),
        ("_x = " + 32 * "(" + "x" + 32 * ")", None),
        ("_x = " + 33 * "(" + "x" + 33 * ")", "nested too deep"),
        ("_x = " + 33 * "[" + "x" + 33 * "]", "nested too deep"),
        ("_x = x)", "not opened"),
        ("_x: __torch__" + 200 * ".a" + " = x", "__torch__.a"),
        (60 * " " + "_x = x", None),
        (61 * " " + "_x = x", "spaces in a row"),
    ],
)
def test_code_is_held_against_the_rule_word_by_word(statement, reason):
    source = a_class(statement)
    if reason is None:
        assert check_code(source, "code/__torch__.py", "model.pt") == {"__torch__.Net"}
        return
    with pytest.raises(ModelRefusedError, match=reason):
        check_code(source, "code/__torch__.py", "model.pt")


def test_a_class_is_known_by_the_place_of_its_code():
    assert check_code(a_class(), "code/__torch__/a/b.py", "model.pt") == {"__torch__.a.b.Net"}


def test_what_torch_wrote_for_its_messages_is_no_part_of_an_artifact(good):
    entries = read_entries(good, "model.pt")
    assert not [name for name in entries if name.endswith(".debug_pkl")]
    assert pack(good) == good
