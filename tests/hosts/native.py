"""The C ABI through ctypes: a host that can hand over whatever it likes, wrong arguments included."""

import ctypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np

OK, TOO_MUCH_FALLBACK, BAD_ARGUMENT, OUT_OF_MEMORY, BAD_MODEL, MISFIT, INTERNAL = 0, 1, 2, 3, 10, 11, 12
FLOAT32, FLOAT64 = 0, 1


class Options(ctypes.Structure):
    """hpcs_options."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("unguarded", ctypes.c_int),
        ("allow_compiled", ctypes.c_int),
        ("num_threads", ctypes.c_int),
        ("device", ctypes.c_int),
        ("device_index", ctypes.c_int),
        ("most_fallback", ctypes.c_double),
        ("filter_width", ctypes.c_double),
        ("grid_spacing", ctypes.c_double * 3),
        ("layout", ctypes.c_char_p),
        ("input_units", ctypes.c_char_p),
        ("output_units", ctypes.c_char_p),
        ("halo", ctypes.c_int * 3),
    ]


class Array(ctypes.Structure):
    """hpcs_array."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int),
        ("num_dims", ctypes.c_int),
        ("shape", ctypes.c_int64 * 5),
        ("strides", ctypes.c_int64 * 5),
    ]


class Counts(ctypes.Structure):
    """hpcs_counts."""

    _fields_ = [(name, ctypes.c_int64) for name in ("calls", "cells", "outside", "not_finite", "failed")]

    def as_tuple(self) -> tuple[int, ...]:
        return self.calls, self.cells, self.outside, self.not_finite, self.failed


def array_of(values: np.ndarray) -> Array:
    """Describe an array as it lies in memory."""
    dtype = FLOAT32 if values.dtype == np.float32 else FLOAT64
    strides = [stride // values.itemsize for stride in values.strides]
    return Array(values.ctypes.data, dtype, values.ndim, tuple(values.shape), tuple(strides))


@dataclass
class Result:
    """Of hpcs_apply."""

    status: int
    counts: tuple[int, ...]
    error: str


class Closure:
    """An open closure."""

    def __init__(self, library: "Library", handle: ctypes.c_void_p):
        self.library, self.handle = library, handle

    def apply(self, inputs: list[np.ndarray | Array], output: np.ndarray | Array) -> Result:
        arrays = [a if isinstance(a, Array) else array_of(a) for a in (*inputs, output)]
        given, counts = (Array * len(inputs))(*arrays[:-1]), Counts()
        status = self.library.c.hpcs_apply(
            self.handle, len(inputs), given, ctypes.byref(arrays[-1]), ctypes.byref(counts)
        )
        return Result(status, counts.as_tuple(), self.library.error())

    def fact(self, key: str) -> str | None:
        fact = self.library.c.hpcs_fact(self.handle, key.encode())
        return None if fact is None else fact.decode()

    def total(self) -> tuple[int, ...]:
        counts = Counts()
        assert self.library.c.hpcs_total_counts(self.handle, ctypes.byref(counts)) == OK
        return counts.as_tuple()


class Library:
    """libhpcsurrogate.so; what it opens it closes at the end.

    Parameters
    ----------
    folder : Path    that holds it
    """

    def __init__(self, folder: Path):
        self.c = ctypes.CDLL(str(folder / "libhpcsurrogate.so"))
        for name in ("hpcs_last_error", "hpcs_fact", "hpcs_metadata"):
            getattr(self.c, name).restype = ctypes.c_char_p
        self.c.hpcs_open.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p]
        self.c.hpcs_apply.argtypes = [ctypes.c_void_p, ctypes.c_int, *[ctypes.c_void_p] * 3]
        self.c.hpcs_fact.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for name in ("hpcs_close", "hpcs_metadata"):
            getattr(self.c, name).argtypes = [ctypes.c_void_p]
        self.c.hpcs_set_defaults.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.c.hpcs_set_defaults.restype = None
        self.c.hpcs_total_counts.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._open: list[ctypes.c_void_p] = []

    def error(self) -> str:
        return self.c.hpcs_last_error().decode()

    def default_options(self) -> Options:
        options = Options()
        self.c.hpcs_set_defaults(ctypes.byref(options), ctypes.sizeof(options))
        return options

    def try_open(self, path: Path, **options) -> tuple[int, ctypes.c_void_p]:
        """Return the status of hpcs_open and what it has opened; `halo` and `grid_spacing` are sequences."""
        chosen = self.default_options()
        for name, value in options.items():
            setattr(chosen, name, type(getattr(chosen, name))(*value) if isinstance(value, tuple) else value)
        handle = ctypes.c_void_p()
        status = self.c.hpcs_open(str(path).encode(), ctypes.byref(chosen), ctypes.byref(handle))
        return status, handle

    def open(self, path: Path, **options) -> Closure:
        status, handle = self.try_open(path, **options)
        assert status == OK, self.error()
        self._open.append(handle)
        return Closure(self, handle)

    def close(self) -> None:
        while self._open:
            assert self.c.hpcs_close(self._open.pop()) == OK
