"""Dumps: atoms, every so many steps, one frame in memory; what `dump custom` and `dump atom` write as text.

Columns may stand in any order and atoms too. The format: the LAMMPS manual, "dump command", format of text files.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hpcsurrogate.sources.lammps_box import Box
from hpcsurrogate.sources.lammps_frame import Frame
from hpcsurrogate.sources.lammps_h5md import SUFFIXES, h5md_frames
from hpcsurrogate.sources.lammps_text import MOST_ROWS, CutShortError, LammpsText, split_words

TEXT_COLUMNS = ("element", "typelabel")
WHOLE_COLUMNS = ("id", "mol", "type", "proc", "ix", "iy", "iz")


def dump_frames(path: str | Path, names: Sequence[str] | None = None, drop_cut_frame: bool = False) -> Iterator[Frame]:
    """Read a dump frame by frame.

    Parameters
    ----------
    path : str or Path                    text, compressed if it ends in .gz; H5MD if in .h5, .hdf5 or .h5md
    names : list of str, optional         columns to read, which saves time; not all of numbers
    drop_cut_frame : bool, optional       whether a frame that a text ends within is left out, not an error

    Yields
    ------
    Frame    in the order of the file

    Raises
    ------
    DataError    if the file is missing, cut short or damaged, lacks a column, steps do not rise or an id comes twice,
                 naming the line, or of H5MD the data set

    Notes
    -----
    Memory is that of a frame; whatever is cut off is missed, and no damage leads to another error
    (tests/unit/sources/test_lammps_dump.py). More on H5MD: `h5md_frames`.
    """
    if Path(path).suffix in SUFFIXES:
        yield from h5md_frames(path, names)
        return
    with LammpsText(path) as text:
        last, units = -1, None
        try:
            while (line := text.line()) is not None:
                frame = _frame(text, line, names, units)
                if frame.step <= last:
                    text.fail(f"step {frame.step} does not come after {last}: parts of two runs")
                last, units = frame.step, frame.units
                yield frame
        except CutShortError:
            if not drop_cut_frame:
                raise


def _frame(text: LammpsText, line: str, names: Sequence[str] | None, units: str | None) -> Frame:
    """The frame that begins at the line read last."""
    place = f"{text.path}: line {text.line_number}"
    time = None
    while line in ("ITEM: UNITS", "ITEM: TIME"):
        if line == "ITEM: UNITS":
            units = _next(text).strip(" ")
        else:
            time = text.number(_next(text).strip(" "))
        line = _next(text)
    step = _whole(text, line, "ITEM: TIMESTEP")
    num_atoms = _whole(text, _next(text), "ITEM: NUMBER OF ATOMS")
    box = _box(text)
    columns = _columns(text, num_atoms, names)
    return Frame(place, step, time, units, box, num_atoms, columns)


def _box(text: LammpsText) -> Box:
    words = split_words(_next(text))
    if words[:3] != ["ITEM:", "BOX", "BOUNDS"]:
        text.fail("expected ITEM: BOX BOUNDS")
    words = words[3:]
    if words[:2] == ["abc", "origin"]:
        text.fail("holds a general triclinic box, which is not read: use `dump_modify triclinic/general no`")
    tilted = words[:3] == ["xy", "xz", "yz"]
    flags = words[3:] if tilted else words
    if flags and (len(flags) != 3 or not all(len(flag) == 2 and set(flag) <= set("pfsm") for flag in flags)):
        text.fail(f"expected three of pp, ff, ss, ..., found {' '.join(flags)[:40]}")
    periodic = tuple(flag == "pp" for flag in flags) if flags else (True, True, True)
    first = text.line_number + 1
    bounds = text.table(3, 3 if tilted else 2)
    try:
        return Box.from_bounds(bounds, periodic)
    except ValueError as error:
        text.fail(str(error), first)


def _columns(text: LammpsText, num_atoms: int, wanted: Sequence[str] | None) -> dict[str, np.ndarray]:
    words = split_words(_next(text))
    if words[:2] != ["ITEM:", "ATOMS"] or len(words) < 3:
        text.fail("expected ITEM: ATOMS and the names of columns")
    present = words[2:]
    if len(set(present)) < len(present):
        text.fail("names a column twice")
    if wanted is None:
        wanted = [name for name in present if name not in TEXT_COLUMNS]
    if missing := [name for name in wanted if name not in present]:
        text.fail(f"has no column {missing[0]} but {' '.join(present)}: add it to the dump")
    read = [*wanted, *({"id"} & set(present) - set(wanted))]
    first = text.line_number + 1
    values = text.table(num_atoms, len(present), [present.index(name) for name in read])
    columns = {name: values[:, place] for place, name in enumerate(read)}
    for name in set(WHOLE_COLUMNS) & set(columns):
        columns[name] = text.whole_column(columns[name], name, first)
    if "id" in columns:
        _require_each_once(text, columns["id"], first)
    return {name: columns[name] for name in wanted}


def _require_each_once(text: LammpsText, ids: np.ndarray, first: int) -> None:
    ordered = np.sort(ids)  # several times as quick as argsort
    if len(ids) == 0 or (ordered[0] > 0 and (np.diff(ordered) > 0).all()):
        return
    order = np.argsort(ids, kind="stable")
    wrong = np.concatenate([[ids[order[0]] <= 0], np.diff(ids[order]) == 0])
    if wrong.any():
        row = int(order[wrong.argmax()])
        text.fail(f"id {ids[row]} comes twice" if ids[row] > 0 else f"id {ids[row]} is not above zero", first + row)


def _next(text: LammpsText) -> str:
    line = text.line()
    if line is None:
        text.cut_short("in the middle of a frame")
    return line


def _whole(text: LammpsText, heading: str, expected: str) -> int:
    """The whole number in the line after a heading."""
    if heading.rstrip(" ") != expected:
        text.fail(f"expected {expected}")
    number = text.whole(_next(text).strip(" "))
    if number > MOST_ROWS and expected.endswith("ATOMS"):
        text.fail(f"{number} atoms cannot be")
    return number
