"""Speed of the reader of LAMMPS dumps beside ASE and MDAnalysis, in one run: megabytes of text a second and core.

LAMMPS itself writes the dump, a Lennard-Jones fluid of 16,384 atoms with positions and velocities, as `dump custom`
does by default. Every contestant lives in a process of its own (bench_lammps_readers.py) with one thread, on one core;
they take turns over the whole file, which is in the machine's memory. What counts is processor time, so that other
programs disturb little, and the median: of a contestant's turns, and of the ratio between neighbouring turns.

    python scripts/bench_lammps.py --json bench.json
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench_lammps_readers import READERS
from bench_loader import report

from hpcsurrogate.core.errors import ConfigError, DataError, HpcsurrogateError

CORE = min(os.sched_getaffinity(0))
OURS, POSITIONS, *PEERS = READERS
FASTEST_AIM = 3.0  # times the fastest peer
SPEED_AIM = 100.0  # MB/s
DECK = """
units lj
lattice fcc 0.8442
region box block 0 16 0 16 0 16
create_box 1 box
create_atoms 1 box
mass 1 1.0
velocity all create 1.44 12345
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0
timestep 0.005
fix move all nve
run 100
reset_timestep 0
dump atoms all custom 1 atoms.dump id type x y z vx vy vz
run {frames}
"""


class Reader:
    """A contestant: its process, which waits between turns."""

    def __init__(self, name: str, interpreter: str, path: Path):
        script = Path(__file__).with_name("bench_lammps_readers.py")
        self.name, self.answers = name, []
        self._process = subprocess.Popen(
            ["taskset", "-c", str(CORE), interpreter, script, name, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        self.version = self._answer()["version"]

    def turn(self) -> None:
        """Read the file once."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.answers.append(self._answer())

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait(timeout=60)

    @property
    def seconds(self) -> list[float]:
        return [answer["seconds"] for answer in self.answers]

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise ConfigError(f"{self.name} ended, see above; `pip install -e .[bench]`, or give --peer-python")
        return json.loads(line)


def write_dump(folder: Path, frames: int) -> Path:
    """Run LAMMPS; about a megabyte a frame.

    Raises
    ------
    ConfigError    if it is not there or does not run
    """
    if not shutil.which("lmp"):
        raise ConfigError("LAMMPS (lmp) is not there; apt-get install lammps, or load your site's module")
    (folder / "in.deck").write_text(DECK.format(frames=frames - 1))
    command = ["lmp", "-in", "in.deck", "-log", "none", "-screen", "screen.txt"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise ConfigError(f"LAMMPS ended with {done.returncode}: {(folder / 'screen.txt').read_text()[-300:]}")
    return folder / "atoms.dump"


def take_turns(readers: list[Reader], rounds: int) -> None:
    """Let each read the file, and see to it that all read the same.

    Raises
    ------
    DataError    if they do not
    """
    for _ in range(rounds):
        for reader in readers:
            reader.turn()
            answer, first = reader.answers[-1], readers[0].answers[0]
            # MDAnalysis keeps 24 bits.
            if answer["frames"] != first["frames"] or abs(answer["mean"] - first["mean"]) > 1e-5 * abs(first["mean"]):
                raise DataError(f"{reader.name} has read {answer}, {OURS} {first}")


def figures_of(readers: list[Reader], num_bytes: int) -> list[dict]:
    """The figures; prints the table."""
    times = {reader.name: reader.seconds for reader in readers}
    fastest = min(PEERS, key=lambda name: statistics.median(times[name]))
    figures = []
    print(f"  {'reader':<28} {'MB/s a core':>12} {'of ' + fastest:>16}")
    for reader in readers:
        speed = num_bytes / 1e6 / statistics.median(reader.seconds)
        ratio = statistics.median(theirs / own for theirs, own in zip(times[fastest], times[reader.name], strict=True))
        print(f"  {reader.name:<28} {speed:>12.0f} {ratio:>16.2f}   {reader.version}")
        aims = [{"at_least": aim, "met": value >= aim} for aim, value in ((SPEED_AIM, speed), (FASTEST_AIM, ratio))]
        of_speed, of_ratio = aims if reader.name == OURS else ({}, {})
        figures.append({"name": f"{reader.name}, a core", "value": speed, "unit": "MB/s"} | of_speed)
        figures.append({"name": f"{reader.name} / {fastest}", "value": ratio, "unit": "1"} | of_ratio)
    return figures


def run_bench(options: argparse.Namespace) -> int:
    """Measure, print, write; 0 if every aim is met."""
    frames, rounds = (30, 3) if options.quick else (200, 5)
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        path = write_dump(Path(folder), frames)
        readers = []
        try:
            for name in READERS:
                readers.append(Reader(name, options.peer_python if name in PEERS else sys.executable, path))
            take_turns(readers, rounds)
        finally:
            for reader in readers:
                reader.close()
        figures = figures_of(readers, path.stat().st_size)
    return report(figures, options.json)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Speed of the reader of LAMMPS dumps beside ASE and MDAnalysis.")
    parser.add_argument("--quick", action="store_true", help="30 MB instead of 200, under a minute")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has the `bench` extra")
    parser.add_argument("--directory", type=Path, help="where the dump is written (default: TMPDIR)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(run_bench(parse()))
    except HpcsurrogateError as error:
        print(f"bench_lammps: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
