"""What the pickles of an archive may make: nothing that reaches beyond the bytes that are there, or never ends."""

import struct

import pytest

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.embed.archive import read_entries
from hpcsurrogate.embed.archive_pickle import check_pickle

CLASSES = {"__torch__.Net"}
ENTRIES = {"data/0": bytes(4 * 12)}
BEGIN, END = b"\x80\x02", b"."
TYPE = b"c%s\n%s\n"
REBUILD, FLOATS, TABLE = (
    TYPE % words
    for words in (
        (b"torch._utils", b"_rebuild_tensor_v2"),
        (b"torch", b"FloatStorage"),
        (b"collections", b"OrderedDict"),
    )
)


def text(content: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(content)) + content


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(elements: int = 12, key: bytes = b"0", of_type: bytes = FLOATS, device: bytes = b"cpu") -> bytes:
    return b"(" + text(b"storage") + of_type + text(key) + text(device) + number(elements) + b"tQ"


def tensor(sizes=(3, 4), strides=(4, 1), offset=0, of: bytes | None = None) -> bytes:
    words = (of or storage()) + number(offset) + numbers(*sizes) + numbers(*strides) + b"\x89" + TABLE + b")R"
    return REBUILD + b"(" + words + b"tR"


def check(steps: bytes) -> None:
    check_pickle(ENTRIES | {"data.pkl": BEGIN + steps + END}, "data.pkl", CLASSES, "model.pt")


@pytest.mark.parametrize(
    "steps",
    [
        tensor(), tensor((4, 3), (1, 4)), tensor((), ()), tensor((3,), (4,), 3), tensor((1, 12), (10**9, 1)),
        b"]" + tensor() + b"a", b"}" + text(b"a") + tensor() + b"s", tensor() + tensor() + b"\x86",
        storage() + b"q\x00" + tensor(of=b"h\x00") + b"\x86", b"c__torch__\nNet\n)\x81}b",
        b"ctorch.jit._pickle\nrestore_type_tag\n}" + text(b"Dict[str, str]") + b"\x86R", b"G" + bytes(8), b"K\x01",
    ],
)  # fmt: skip
def test_what_torch_writes_passes(steps):
    check(steps)


@pytest.mark.parametrize(
    "steps",
    [
        tensor((3, 5)), tensor((4, 4)), tensor((3, 4), (4, 2)), tensor(offset=1), tensor(offset=-1), tensor((-1, 4)),
        tensor((3, 4), (-4, 1)), tensor((0, 4)), tensor((13,), (0,)), tensor((2**62, 2**62), (2**62, 2**62)),
        tensor((2, 2), (2**63 - 1, 2**63 - 1)), tensor((2,), (2**63 - 1,), 11), tensor((1,), (1,), 12),
    ],
)  # fmt: skip
def test_a_tensor_lies_within_its_storage(steps):
    with pytest.raises(ModelRefusedError, match=r"data.pkl byte \d+: a tensor is empty or reaches beyond its storage"):
        check(steps)


@pytest.mark.parametrize(
    "steps",
    [
        storage(13), storage(11), storage(2**62), storage(12, b"1"), storage(12, b"../data/0"),
        storage(12, of_type=TYPE % (b"torch", b"DoubleStorage")), storage(12, b"\xff"),
    ],
)  # fmt: skip
def test_a_storage_is_as_large_as_its_entry(steps):
    with pytest.raises(ModelRefusedError, match=r"data.pkl byte \d+: a storage is not as large as its entry"):
        check(steps)


def test_nothing_nests_deeper_than_closures_do():
    """torch lets go of nested values by functions that call themselves."""
    for steps in (b")" + 31 * b"\x85", 32 * b"]" + 31 * b"a", TABLE * 32 + b")" + b"R" + 31 * b"\x85R"):
        check(steps)
    for steps in (b")" + 33 * b"\x85", 40 * b"]" + 39 * b"a", TABLE * 40 + b")" + b"R" + 39 * b"\x85R"):
        with pytest.raises(ModelRefusedError, match=r"data.pkl byte \d+: nests deeper"):
            check(steps)


@pytest.mark.parametrize(
    "steps",
    [
        b"]q\x00h\x00a", b"}q\x00h\x00h\x00s", b")q\x00h\x00\x86", b"h\x07", b"q\x00", b"Nr\xff\xff\xff\x7f", b"Nq\x01",
        b"a", b"]a", b"t", b"]e",
        b"]((e",
        b"(", b"NN", b"", b"Nb", b"NNb", b"NR", b"NNR", TABLE + b"NR", FLOATS + b")R", b"N)\x81", TABLE + b")\x81",
        b"NQ", b")Q", storage(device=b"cuda"), storage(device=b"meta"), storage(-1), storage(of_type=TABLE),
        tensor((3, 4), (4,)), tensor(of=b"N"), REBUILD + b")R", b"\x8a\x01\x05", b"\x8a\x00", b"NNs", b"NNa",
        b"ctorch.jit._pickle\nrestore_type_tag\n}" + text(b"List[" * 51) + b"\x86R",
        b"ctorch.jit._pickle\nrestore_type_tag\n}}\x86R", b"ctorch.jit._pickle\nrestore_type_tag\n)R",
        b"c__torch__\nNet\n)\x81}b}b",
    ],
)  # fmt: skip
def test_what_torch_does_not_write_is_refused(steps):
    with pytest.raises(ModelRefusedError, match=r"data.pkl byte \d+: is not what torch writes for a closure"):
        check(steps)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (b"cos\nsystem\n", "'os.system' is none of the types"),
        (b"c__torch__\nOther\n", "'__torch__.Other' is none of the types"),
        (b"c\xff\n\n\n", "is none of the types"),
        (b"\x95\x00", "opcode 0x95"),
        (b"0", "opcode 0x30"),
        (b"N.N", "goes on behind its end"),
        (text(b"abc")[:-1], "cut off"),
        (b"cos\nsystem", "cut off"),
    ],
)
def test_other_types_and_opcodes_are_refused(steps, reason):
    with pytest.raises(ModelRefusedError, match=reason):
        check(steps)


@pytest.mark.parametrize("name", ["data.pkl", "constants.pkl"])
def test_every_shortened_pickle_is_refused(good, name):
    entries = read_entries(good, "good")
    modules = (code.removeprefix("code/").removesuffix(".py") for code in entries if code.endswith(".py"))
    classes = {module.replace("/", ".") + ".GridClosure" for module in modules}
    check_pickle(entries, name, classes, "model.pt")
    for length in range(len(entries[name])):
        with pytest.raises(ModelRefusedError, match=name):
            check_pickle(entries | {name: entries[name][:length]}, name, classes, "model.pt")
