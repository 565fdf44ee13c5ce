"""hpcs_open: what a host declares and sets, and artifacts that are not for it."""

import ctypes

import numpy as np
import pytest
import torch

from hpcsurrogate.export.grid_closure import GridClosure
from tests.hosts import artifacts
from tests.hosts.native import BAD_ARGUMENT, BAD_MODEL, MISFIT, OK, TOO_MUCH_FALLBACK, Closure

HALO = 5


MISFITS = {
    "filter_width": ({"filter_width": 0.5}, "filter width: the artifact is for 0.392699 m, this host declares 0.5 m"),
    "grid_spacing": ({"grid_spacing": (0.3926990817, 0.2, 0)}, "grid spacing: the artifact is for 0.392699 m"),
    "a third axis": ({"grid_spacing": (0, 0, 0.1)}, "2 axes"),
    "layout": ({"layout": b"collocated"}, "for staggered fields, this host declares collocated ones"),
    "input_units": ({"input_units": b"cm/s"}, "for 'm/s', this host declares 'cm/s'"),
    "output_units": ({"output_units": b"m/s"}, "for 'm/s^2', this host declares 'm/s'"),
    "halo": ({"halo": (HALO - 1, 0, 0)}, "a halo of at least 5 cells, this host declares 4 cells"),
    "halo_z": ({"halo": (0, 0, HALO)}, "without an axis z"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_an_artifact_for_another_host_is_refused_at_open(case, grid_artifact, library):
    options, words = MISFITS[case]
    status, handle = library.try_open(grid_artifact, **options)
    assert status == MISFIT and not library.c.hpcs_is_recoverable(status) and handle.value is None
    assert words in library.error() and library.error().startswith(str(grid_artifact))


def test_what_the_host_declares_may_be_right(grid_artifact, pointwise_artifact, library):
    spacing = 2 * np.pi / 16
    library.open(
        grid_artifact, filter_width=spacing, grid_spacing=(spacing, np.float32(spacing), 0), layout=b"staggered",
        input_units=b"m/s", output_units=b"m/s^2", halo=(HALO, HALO + 1, 0),
    )  # fmt: skip
    library.open(pointwise_artifact, input_units=b"1/s m", output_units=b"m^2/s^2", layout=b"staggered")
    assert library.try_open(pointwise_artifact, halo=(1, 0, 0))[0] == MISFIT


@pytest.mark.parametrize(
    "options",
    [
        {"struct_size": 8}, {"num_threads": 0}, {"num_threads": 1025}, {"device": 3}, {"device_index": -1},
        {"halo": (-1, 0, 0)}, {"most_fallback": float("nan")},
    ],
)  # fmt: skip
def test_options_that_there_are_not_are_named(options, grid_artifact, library):
    status, _ = library.try_open(grid_artifact, **options)
    assert status == BAD_ARGUMENT and next(iter(options)) in library.error()


def test_options_of_an_older_header_are_refused_and_nothing_beyond_them_is_touched(grid_artifact, library):
    older, handle = (ctypes.c_uint8 * 64)(*[7] * 64), ctypes.c_void_p()
    library.c.hpcs_set_defaults(older, 40)
    assert bytes(older[40:]) == b"\7" * 24 and bytes(older[:40]) != b"\7" * 40
    assert library.c.hpcs_open(str(grid_artifact).encode(), older, ctypes.byref(handle)) == BAD_ARGUMENT
    assert "struct_size is 40" in library.error() and "the header of the library" in library.error()


def test_a_host_that_sets_nothing_has_the_guard(grid_artifact, library):
    handle = ctypes.c_void_p()
    assert library.c.hpcs_open(str(grid_artifact).encode(), None, ctypes.byref(handle)) == OK
    velocity, output = np.full((1, 2, 8, 8), np.nan, np.float32), np.full((1, 2, 8, 8), np.nan, np.float32)
    result = Closure(library, handle).apply([velocity], output)
    assert result.status == TOO_MUCH_FALLBACK and np.isfinite(output).all()
    assert library.c.hpcs_close(handle) == OK


def test_a_missing_file_is_fatal(tmp_path, library):
    status, handle = library.try_open(tmp_path / "model.pt")
    assert status == BAD_MODEL and handle.value is None and "file is missing" in library.error()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this LibTorch has a CUDA device")
def test_a_device_that_is_not_there_is_fatal(grid_artifact, library):
    assert library.try_open(grid_artifact, device=1)[0] == MISFIT and "no CUDA device" in library.error()


class LetsNaNThrough(GridClosure):
    def with_fallback(self, velocity: torch.Tensor, inside: torch.Tensor, output: torch.Tensor):
        return velocity + output, torch.stack((inside, inside, inside))


class BreaksOnNaN(GridClosure):
    def with_fallback(self, velocity: torch.Tensor, inside: torch.Tensor, output: torch.Tensor):
        return output.reshape(3, -1, 7, 11), torch.stack((inside, inside, inside))


@pytest.mark.parametrize(
    ("closure", "words"), [(LetsNaNThrough, "its guard lets through what is not finite"), (BreaksOnNaN, "failed: ")]
)
def test_a_guard_that_does_not_hold_is_found_at_open(closure, words, tmp_path, library, monkeypatch):
    monkeypatch.setattr("random_artifacts.grid_closure", closure)
    path = artifacts.write_grid(tmp_path / "model.pt")
    status, handle = library.try_open(path)
    assert not library.c.hpcs_is_recoverable(status) and handle.value is None
    assert library.error().startswith(str(path)) and words in library.error() and "\n" not in library.error()
