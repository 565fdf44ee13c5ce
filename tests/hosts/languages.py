"""The programs of cpp_api and fortran_api: the same closure, called from C++ and from Fortran."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import host_builds
import numpy as np

HERE = Path(__file__).resolve().parent
NAMES = ("cpp", "fortran")
TIMEOUT = 120  # [s]


class Answer(NamedTuple):
    """What a program said."""

    results: list[np.ndarray]
    """One for each case up to the first that failed, as (d, nx, ny[, nz]) or (n, components)."""
    messages: list[str]
    """Lines of its standard error."""
    exit_code: int


@dataclass(frozen=True)
class Language:
    """A language of hosts.

    Attributes
    ----------
    name : str         cpp or fortran
    programs : Path    the folder where they are
    """

    name: str
    programs: Path

    @classmethod
    def build(cls, name: str) -> "Language":
        """Build the programs against the library."""
        return cls(name, host_builds.build_host(HERE / f"{name}_api", "programs").parent)

    def open(self, filter_width: float, *models: Path) -> list[str]:
        """Let one program open models one after another.

        Returns
        -------
        list of str    for each a line, "0 name" or status and message; at the end "the solver lives"
        """
        program = self.programs / ("open_models" if self.name == "cpp" else "open_models_fortran")
        command = [program, str(filter_width), *models]
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=True)
        assert done.stderr == b""
        return done.stdout.decode(errors="replace").splitlines()

    def start(self, model: Path, dtype: str, mode: str) -> subprocess.Popen:
        """Start the program that applies `model` to arrays of `dtype` from its standard input."""
        if self.name == "cpp":
            command = [self.programs / "apply_cpp", model, dtype, mode]
        else:
            command = [self.programs / f"apply{dtype.removeprefix('float')}", model, mode]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)

    def apply(self, model: Path, dtype: str, mode: str, cases: Sequence[tuple[np.ndarray, ...]]) -> Answer:
        """Apply a model to cases, (velocity (d, nx, ny[, nz]),) or (gradient (n, components), filter_width (n,))."""
        return self.finish(self.start(model, dtype, mode), dtype, cases)

    def finish(self, program: subprocess.Popen, dtype: str, cases: Sequence[tuple[np.ndarray, ...]]) -> Answer:
        """Hand the cases to a program that `start` has started, and read what it says."""
        output, errors = program.communicate(b"".join(self._bytes(case, dtype) for case in cases), TIMEOUT)
        values = np.frombuffer(output, dtype)
        results = []
        for shape in map(_output_shape, cases):
            if values.size:  # of cases that fail, which come last, there is none
                results.append(self._from_memory(values[: np.prod(shape)], shape))
                values = values[np.prod(shape) :]
        assert values.size == 0
        return Answer(results, errors.decode().splitlines(), program.returncode)

    def _bytes(self, case: tuple[np.ndarray, ...], dtype: str) -> bytes:
        sizes = case[0].shape[1:] if len(case) == 1 else case[0].shape
        return np.array(sizes, np.int64).tobytes() + b"".join(self._in_memory(array.astype(dtype)) for array in case)

    def _in_memory(self, array: np.ndarray) -> bytes:
        """As the language keeps it: Fortran the component last, and the first axis fastest."""
        if self.name == "cpp":
            return array.tobytes()
        return (np.moveaxis(array, 0, -1) if array.ndim >= 3 else array).tobytes(order="F")

    def _from_memory(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if self.name == "cpp":
            return values.reshape(shape)
        if len(shape) >= 3:
            return np.moveaxis(values.reshape((*shape[1:], shape[0]), order="F"), -1, 0)
        return values.reshape(shape, order="F")


def _output_shape(case: tuple[np.ndarray, ...]) -> tuple[int, ...]:
    return case[0].shape if len(case) == 1 else (len(case[0]), {4: 3, 9: 6}[case[0].shape[1]])
