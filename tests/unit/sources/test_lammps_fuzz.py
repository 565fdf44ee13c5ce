"""Files of LAMMPS, cut and garbled at random: an error that names file and line, or numbers that stand in the bytes.

What a damaged file may still be read as is found by other code than the readers': Python's own split and float, line by
line. A frame is never dropped in silence: a file that is read holds as many frames as it has headings.
"""

import gzip
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.lammps_averages import average_frames, read_averages
from hpcsurrogate.sources.lammps_chunks import read_chunk_averages
from hpcsurrogate.sources.lammps_dump import dump_frames
from hpcsurrogate.sources.lammps_log import thermo_runs
from hpcsurrogate.sources.lammps_numbers import parse_numbers
from tests.lammps_program import FLUID, run_lammps

DECK = (
    FLUID.format(tilt="0.3 0 0.2").replace("4 0 4 0 4", "2 0 2 0 2").replace("lj/cut 2.5", "lj/cut 1.2")
    + """
compute chunks all chunk/atom bin/1d z lower 0.25 units reduced
fix scalars all ave/time 10 1 10 c_thermo_temp c_thermo_pe file scalars.txt
fix vector all ave/time 10 1 10 c_thermo_press mode vector file vector.txt
fix chunks all ave/chunk 10 1 10 chunks vx temp file chunks.txt
dump plain all custom 10 plain.dump id type x y z vx
dump named all custom 10 named.dump element xs ys id zs
dump_modify named element Ar
dump_modify plain units yes time yes
thermo_style custom step temp pe press
thermo 10
run 30
thermo_style multi
run 20
"""
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """What a real run of 32 atoms left, by the reader's name."""
    folder = tmp_path_factory.mktemp("fuzz")
    run_lammps(folder, DECK)
    names = {"plain": "plain.dump", "named": "named.dump", "scalars": "scalars.txt", "vector": "vector.txt"}
    names |= {"chunks": "chunks.txt", "log": "log.lammps"}
    return {kind: (folder / name).read_bytes() for kind, name in names.items()}


READERS = {
    "plain": lambda path: list(dump_frames(path)),
    "named": lambda path: list(dump_frames(path, ["xs", "ys", "zs"])),
    "scalars": lambda path: [read_averages(path)],
    "vector": lambda path: list(average_frames(path)),
    "chunks": lambda path: [read_chunk_averages(path)],
    "log": lambda path: list(thermo_runs(path)),
}
# What begins a line of every frame, or ends that of every run.
MARKS = {"plain": b"ITEM: TIMESTEP", "named": b"ITEM: TIMESTEP", "log": b"Loop time of"}

# Bytes that are near to what a file holds, and bytes that are not.
LIKELY = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        b" ",
        b"\t",
        b"\x00",
        b"\x0b",
        b"\x0c",
        b"\x85",
        b"-",
        b"+",
        b".",
        b"e",
        b"e9",
        b"1e999",
        b"nan",
        b"inf",
    ]
    + [
        b"0x1p3",
        b"1_0",
        b"1,5",
        b"#",
        b'"',
        b"9" * 25,
        b"ITEM: TIMESTEP\n",
        b"ITEM: ATOMS id x\n",
        b"Step Temp\n",
        b"\xff",
    ]
    + [
        b"Loop time of",
        b"= 1",
        b"---------------- Step 10 ----- CPU = 0.1 (sec) ---------\n",
        b"WARNING: \n",
        b"ERROR \n",
    ]
)
ADDED = st.one_of(LIKELY, st.binary(max_size=12))
DAMAGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 60), ADDED), min_size=1, max_size=3)


def damaged(whole: bytes, damages: list[tuple[float, int, bytes]]) -> bytes:
    for share, removed, added in damages:
        place = int(share * len(whole))
        whole = whole[:place] + added + whole[place + removed :]
    return whole


def numbers_in(content: bytes) -> set[float]:
    """Every finite number among the words, and among what stands beside an equals sign."""
    words = re.split(rb"[ \t\r\n=]+", content)
    found = {float(word) for word in words if re.fullmatch(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", word)}
    return {value for value in found if math.isfinite(value)}


def values_of(record: object) -> np.ndarray:
    if hasattr(record, "columns") and isinstance(record.columns, dict):
        assert all(len(values) == record.num_atoms for values in record.columns.values())
        return np.concatenate([np.asarray(values, float) for values in record.columns.values()])
    return np.asarray(record.values).ravel()


def check(kind: str, content: bytes, path: Path) -> None:
    """Read; only a DataError that names file and line, or numbers of the file."""
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    try:
        records = READERS[kind](path)
    except DataError as error:
        assert re.match(rf"{re.escape(str(path))}: (line \d+: )", str(error)), error
        assert "\n" not in str(error)
        return
    numbers = numbers_in(content)
    for record in records:
        assert set(values_of(record).tolist()) <= numbers
    if kind in MARKS:
        marks = sum(line.startswith(MARKS[kind]) for line in content.split(b"\n")[: content.count(b"\n")])
        assert sum(getattr(record, "is_finished", True) for record in records) == marks


FUZZ = settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("kind", list(READERS))
@FUZZ
@given(damages=DAMAGES)
def test_garbled_files_are_refused_or_read_as_they_stand(kind, damages, files, tmp_path):
    check(kind, damaged(files[kind], damages), tmp_path / "damaged.txt")


@pytest.mark.parametrize("kind", list(READERS))
def test_truncated_files_are_refused_or_end_with_a_record(kind, files, tmp_path):
    for end in range(0, len(files[kind]), 7):
        check(kind, files[kind][:end], tmp_path / "cut.txt")


@FUZZ
@given(damages=DAMAGES)
def test_a_garbled_compressed_file_is_refused(damages, files, tmp_path):
    """gzip's own checksum finds what is not found before."""
    content = gzip.compress(files["plain"], mtime=0)
    path = tmp_path / "damaged.dump.gz"
    path.write_bytes(damaged(content, damages))
    try:
        found = list(dump_frames(path))
    except DataError as error:
        assert re.match(rf"{re.escape(str(path))}: line \d+: ", str(error)) and "\n" not in str(error)
    else:
        path.write_bytes(content)
        for one, other in zip(found, dump_frames(path), strict=True):
            assert np.array_equal(values_of(one), values_of(other))


WORDS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers().map(str),
    st.text("0123456789+-.eEdxnaif_,\"'#jJ", min_size=1, max_size=6),
)
BLANKS = st.sampled_from([" ", " ", "  ", "\t"])
ROWS = st.lists(st.tuples(st.lists(WORDS, min_size=2, max_size=4), BLANKS, st.sampled_from(["\n", " \n", "\r\n"])))


@settings(max_examples=500, deadline=None, derandomize=True)
@given(rows=ROWS.filter(bool), columns=st.sampled_from([[0, 1, 2], [2, 0], [1], [2, 1, 0]]))
@example(rows=[(["1", "2", "3", "4"], " ", "\n")], columns=[2, 1, 0])
def test_a_table_is_what_python_reads(rows, columns):
    """Whatever numpy thinks of a word, it is a number if and only if Python's stricter half says so."""
    text = "".join(blank.join(words) + end for words, blank, end in rows).encode()
    plain = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
    expected = []
    for number, (words, _, _) in enumerate(rows):
        chosen = [words[column] for column in columns] if len(words) == 3 else []
        if not chosen or any(not plain.fullmatch(word) or math.isinf(float(word)) for word in chosen):
            with pytest.raises(ValueError) as caught:
                parse_numbers(text, len(rows), 3, columns)
            assert caught.value.args[0] == number
            return
        expected.append([float(word) for word in chosen])
    assert parse_numbers(text, len(rows), 3, columns).tolist() == expected
