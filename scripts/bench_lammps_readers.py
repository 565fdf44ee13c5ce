"""A reader of LAMMPS dumps in a process of its own, for bench_lammps.py.

    python scripts/bench_lammps_readers.py READER DUMP

Says hello with its version, then for every line of standard input reads the dump from the beginning to its end and
answers {"seconds", "frames", "mean"}: processor time of this process, frames, mean of the coordinates of the last
frame. No more than is needed to read is done: frames are dropped as they come. The peers as their documentation has it
for a dump of one's own columns, frame after frame.
"""

import importlib.metadata
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np


def hpcsurrogate(path: str) -> Iterator[np.ndarray]:
    """Positions of each frame; all columns are read."""
    from hpcsurrogate.sources.lammps_dump import dump_frames

    for frame in dump_frames(path):
        yield frame.vectors("xyz")


def hpcsurrogate_positions(path: str) -> Iterator[np.ndarray]:
    """Positions of each frame, and nothing else."""
    from hpcsurrogate.sources.lammps_dump import dump_frames

    for frame in dump_frames(path, ["x", "y", "z"]):
        yield frame.vectors("xyz")


def ase(path: str) -> Iterator[np.ndarray]:
    """Positions of each frame; all columns are read."""
    from ase.io import iread

    for atoms in iread(path, index=":", format="lammps-dump-text"):
        yield atoms.positions


def mdanalysis(path: str) -> Iterator[np.ndarray]:
    """Positions of each frame, in float32; velocities are read too."""
    from MDAnalysis.coordinates.LAMMPS import DumpReader

    for frame in DumpReader(path, lammps_coordinate_convention="unscaled"):
        yield frame.positions


READERS: dict[str, Callable[[str], Iterator[np.ndarray]]] = {
    "hpcsurrogate": hpcsurrogate,
    "hpcsurrogate, x y z alone": hpcsurrogate_positions,
    "ASE": ase,
    "MDAnalysis": mdanalysis,
}


def main(name: str, path: str) -> None:
    """Read as often as there are lines on standard input."""
    warnings.simplefilter("ignore")  # of the peers, on masses and time steps that a dump does not say
    version = importlib.metadata.version(name.split(",")[0])
    next(READERS[name](path))  # imports
    print(json.dumps({"version": version}), flush=True)
    for _ in sys.stdin:
        begin = time.process_time()
        for number, positions in enumerate(READERS[name](path), 1):
            frames, last = number, positions
        seconds = time.process_time() - begin
        print(json.dumps({"seconds": seconds, "frames": frames, "mean": float(np.mean(last))}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
