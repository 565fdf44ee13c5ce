"""What `fix ave/chunk` writes of chunks that stay the same, such as slices of a channel: one array."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.lammps_averages import AverageFrame, average_frames, find_column

PLACES = ("Chunk", "OrigID", "Coord1", "Coord2", "Coord3")  # columns that say which chunk a row is


@dataclass(frozen=True)
class ChunkAverages:
    """Averages of chunks, block of steps by block of steps.

    Attributes
    ----------
    path : Path
    steps : ndarray, shape (n_blocks,), int64    rising; the last of each block
    columns : tuple of str                       Chunk Coord1 Ncount ..., as in the file
    values : ndarray, shape (n_blocks, n_chunks, n_columns), float64, in the units of the script
    """

    path: Path
    steps: np.ndarray
    columns: tuple[str, ...]
    values: np.ndarray

    def column(self, name: str) -> np.ndarray:
        """Return a column; `temp` stands for `v_temp`, `c_temp` or `f_temp` too.

        Returns
        -------
        ndarray, shape (n_blocks, n_chunks), float64

        Raises
        ------
        DataError    if there is none
        """
        found = find_column(self.columns, name)
        if found is None:
            raise DataError(
                f"{self.path}: has no column {name} but {' '.join(self.columns)}; correct the name or the script"
            )
        return self.values[:, :, found]


def read_chunk_averages(path: str | Path) -> ChunkAverages:
    """Read what `fix ave/chunk` wrote.

    Returns
    -------
    ChunkAverages

    Raises
    ------
    DataError    if the file is missing, cut short or damaged, holds no block, or the number of chunks or the place of
                 one changes from block to block, naming the line

    Notes
    -----
    All blocks are in memory at the end; `average_frames` gives one after the other.
    """
    frames: list[AverageFrame] = []
    for frame in average_frames(path):
        if frame.names[0] != "Chunk":
            raise DataError(f"{frame.place}: rows are named {frame.names[0]}, expected Chunk; use fix ave/chunk")
        if frames:
            _require_same_chunks(frame, frames[0])
        frames.append(frame)
    if not frames:
        raise DataError(f"{path}: line 4: no block of chunks follows; give the run more steps")
    return ChunkAverages(
        Path(path),
        np.array([frame.step for frame in frames], np.int64),
        frames[0].names,
        np.stack([frame.values for frame in frames]),
    )


def _require_same_chunks(frame: AverageFrame, first: AverageFrame) -> None:
    if len(frame.values) != len(first.values):
        raise DataError(
            f"{frame.place}: {len(frame.values)} chunks, but {len(first.values)} at step {first.step}; "
            "give the chunks a fixed number"
        )
    places = [column for column, name in enumerate(frame.names) if name in PLACES]
    moved = (frame.values[:, places] != first.values[:, places]).any(axis=1)
    if moved.any():
        raise DataError(
            f"{frame.place}: chunk {int(moved.argmax()) + 1} is not where it was at step {first.step}; "
            "give the chunks fixed places, or read frame by frame"
        )
