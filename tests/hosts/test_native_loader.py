"""The native loader refuses what Python's refuses, with the same words, and accepts what it accepts."""

import hashlib
import re
import subprocess

import artifact_forgeries
import fuzz_artifacts
import numpy as np
import pytest
import random_artifacts

from hpcsurrogate.core.errors import HpcsurrogateError
from hpcsurrogate.embed.archive import check_archive, read_entries
from hpcsurrogate.embed.artifact import load_artifact, manifest_path
from hpcsurrogate.export.script import artifact_bytes, script_module, write_artifact
from tests.hosts.artifacts import FLOW, HOST
from tests.hosts.languages import Language


@pytest.fixture(scope="module")
def cpp() -> Language:
    return Language.build("cpp")


def refusal_in_python(path) -> str:
    with pytest.raises(HpcsurrogateError) as refusal:
        load_artifact(path)
    return str(refusal.value)


# Examples of FIPS 180-2 and of NIST's validation programme; of the third, the padding takes a block of its own.
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (
            b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
            b"nopqrstu",
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
        ),
        (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ],
)
def test_sha256_is_that_of_the_standard(cpp, message, expected):
    done = subprocess.run([cpp.programs / "print_sha256"], input=message, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().strip() == expected == hashlib.sha256(message).hexdigest()


def test_forged_artifacts_are_refused_with_the_words_of_python(cpp, tmp_path):
    """Code that writes files, loops or prints; entries and pickles that do not belong there: no file is written."""
    canary, paths, expected = tmp_path / "canary", [], []
    good = artifact_forgeries.good_artifact()
    for number, forgery in enumerate(artifact_forgeries.forgeries(good, canary).values()):
        paths.append(tmp_path / f"forgery-{number}.pt")
        write_artifact(paths[-1], forgery.content)
        expected.append(f"10 {refusal_in_python(paths[-1])}")
    assert cpp.open(0.0, *paths) == [*expected, "the solver lives"]
    assert len(paths) > 40 and not canary.exists()


def test_a_guard_that_is_none_is_refused(cpp, tmp_path):
    """A tuple of one value in the place of two, and counts that are not three."""
    good = artifact_forgeries.good_artifact()
    name = artifact_forgeries.code_entry(good)
    code = read_entries(good, "good")[name].decode()
    paths = []
    for number, (returns, value) in enumerate(
        [
            ("Tuple[Tensor]", "(velocity,)"),
            ("Tensor", "velocity"),
            ("Tuple[Tensor, Tensor]", "(velocity, torch.zeros([2], dtype=4))"),
            ("Tuple[Tensor, Tensor]", "(velocity, torch.zeros([3], dtype=6))"),
            ("Tuple[Tensor, Tensor]", "(torch.sum(velocity), torch.zeros([3], dtype=4))"),
        ]
    ):
        forged = f"{code[: code.index('    halo: int=0')]}    halo: int=0) -> {returns}:\n    return {value}\n"
        paths.append(tmp_path / f"{number}.pt")
        write_artifact(paths[-1], artifact_forgeries.with_changed(good, name, forged.encode()))
        refusal_in_python(paths[-1])
    *lines, _ = cpp.open(0.0, *paths)
    assert [line.split()[:2] for line in lines] == [["10", f"{path}:"] for path in paths]


PIECES = (
    b"torch", b"ops", b"CONSTANTS.c1", b"__torch__", b"torch.add(", b"torch.add_(", b"def ", b"class ", b"for ", b"_a",
    b"is not", b"if (", b"(", b")", b"]", b".", b"::", b"1.", b"1.5e", b"1e5", b'"', b'"""', b"\\", b"\n", b"#", b"\t",
    b"\xe9", b"__x",
)  # fmt: skip


def start_of(message: str) -> str:
    """A message up to what it quotes, since bytes that are no letters are shown in another way."""
    return re.split("['(]", message)[0]


def with_damaged_entry(good: bytes, number: int) -> bytes:
    """The good one, sealed again, with bytes of its code or a pickle replaced by what means something there or not."""
    generator = np.random.default_rng([7, number])
    name = (artifact_forgeries.code_entry(good), "data.pkl", "constants.pkl")[generator.choice(3, p=(0.7, 0.2, 0.1))]
    entry = read_entries(good, "good")[name]
    for _ in range(generator.integers(1, 4)):
        start = int(generator.integers(len(entry)))
        piece = PIECES[generator.integers(len(PIECES))] if generator.random() < 0.7 else generator.bytes(1)
        entry = entry[:start] + piece + entry[start + int(generator.integers(4)) :]
    return artifact_forgeries.with_changed(good, name, entry)


def rule_in_python(path) -> str:
    """What the check of the archive says, which is before torch sees it; "" if it has nothing against it."""
    try:
        check_archive(path.read_bytes(), path)
    except HpcsurrogateError as refusal:
        return str(refusal)
    return ""


def test_the_rule_of_what_an_archive_may_hold_is_that_of_python(cpp, is_long, tmp_path):
    good = artifact_forgeries.good_artifact()
    paths = [tmp_path / f"{number}.pt" for number in range(4000 if is_long else 300)]
    for number, path in enumerate(paths):
        content = with_damaged_entry(good, number)
        path.write_bytes(content)
        manifest_path(path).write_text(hashlib.sha256(content).hexdigest())
    *lines, _ = cpp.open(0.0, *paths)
    passed = 0
    for path, line in zip(paths, lines, strict=True):
        expected = rule_in_python(path)
        passed += not expected
        if expected:
            assert start_of(line) == start_of(f"10 {expected}")
        else:
            assert "do not use this file" not in line
    assert 0.03 * len(paths) < passed < 0.5 * len(paths)


def test_damaged_files_are_refused_and_harmless_ones_accepted_as_in_python(cpp, is_long, tmp_path):
    """Bits, cuts, changed or lost entries, edited manifests, as scripts/fuzz_artifacts.py does them; no new seals."""
    good = tmp_path / "good.pt"
    write_artifact(good, artifact_forgeries.good_artifact())
    content, manifest, paths = good.read_bytes(), manifest_path(good).read_bytes(), []
    for number in range(4000 if is_long else 300):
        kind, _, damaged, damaged_manifest = fuzz_artifacts.mutate(content, manifest, number)
        if kind != "forged":
            paths.append(tmp_path / f"{number}.pt")
            paths[-1].write_bytes(damaged)
            manifest_path(paths[-1]).write_bytes(damaged_manifest)
    *lines, _ = cpp.open(0.0, *paths)
    assert {line.split()[0] for line in lines} == {"0", "10"}
    for path, line in zip(paths, lines, strict=True):
        if line.startswith("0 "):
            assert line == f"0 {load_artifact(path).metadata.name}"
        else:
            assert "\n" not in refusal_in_python(path)


def test_manifests_are_read_as_python_reads_them(cpp, grid_artifact, tmp_path):
    content = grid_artifact.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    texts = ["", "\n", f"{checksum[:-1]}  model.pt\n", f"{checksum.upper()}\n", f"{checksum}\n", f"\n \t{checksum}\x1c",
             f"{checksum}x\n", f"{'0' * 64}  model.pt\n"]  # fmt: skip
    paths = [tmp_path / f"{number}.pt" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(content)
        manifest_path(path).write_text(text)
    *lines, _ = cpp.open(0.0, *paths)
    assert [line.split()[0] for line in lines] == ["10", "10", "10", "10", "0", "0", "10", "10"]
    for path, line in zip(paths, lines, strict=True):
        expected = f"0 {load_artifact(path).metadata.name}" if line[0] == "0" else f"10 {refusal_in_python(path)}"
        assert line == expected


@pytest.mark.parametrize(
    ("artifact", "error", "allowed"), [("grid_artifact", 1e-3, "1e-05"), ("grid_artifact64", 1e-9, "1e-12")]
)
def test_golden_vectors_that_are_not_reproduced_are_refused(cpp, artifact, error, allowed, tmp_path, request):
    good = load_artifact(request.getfixturevalue(artifact))
    closure = random_artifacts.random_closure({"kind": "quadratic_stencil"}, HOST, FLOW, good.golden_inputs[0])
    path = tmp_path / "model.pt"
    for factor, status in ((1, "0"), (1 + error, "10")):
        golden_output = factor * good.golden_output
        write_artifact(path, artifact_bytes(script_module(closure), good.metadata, good.golden_inputs, golden_output))
        answer = cpp.open(0.0, path)[0]
        assert answer.split()[0] == status
    for message in (answer, refusal_in_python(path)):
        assert "does not reproduce its golden output" in message and f"allowed {allowed}" in message
