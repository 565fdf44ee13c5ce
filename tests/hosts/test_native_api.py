"""The C ABI: the same numbers as Python however arrays lie in memory, and what it says to a host that is wrong."""

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.export.grid_closure import GridClosure
from tests.hosts import artifacts
from tests.hosts.artifacts import LARGEST_GRADIENT
from tests.hosts.native import BAD_ARGUMENT, INTERNAL, OK, TOO_MUCH_FALLBACK, Array, Library, array_of

HALO = 5


def field(nx=12, ny=10, dtype=np.float32, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (1, 2, nx, ny)).astype(dtype)


def cells(n=50, seed=0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.uniform(-0.5, 0.5, (n, 4)).astype(np.float32), random.uniform(0.1, 0.2, n).astype(np.float32)]


def expected(path: Path, *inputs: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Output and counts by the Python loader."""
    with torch.no_grad():
        output, counts = load_artifact(path).guarded(*map(torch.from_numpy, inputs))
    return output.numpy(), (counts.outside, counts.not_finite, counts.failed)


@pytest.mark.parametrize("name", ["grid_artifact", "grid_artifact64"])
def test_a_field_gives_what_python_gives_counts_included(name, request, library):
    path = request.getfixturevalue(name)
    velocity = field(dtype=np.float64 if name.endswith("64") else np.float32)
    velocity[0, :, 3, 3] = 1e20
    velocity[0, 0, 9, 5] = np.nan
    output = np.empty_like(velocity)
    result = library.open(path, most_fallback=1.0).apply([velocity], output)
    reference, counts = expected(path, velocity)
    assert result.status == OK and result.counts == (1, velocity[0, 0].size, *counts)
    assert counts[0] > 0 and counts[1] > 0
    np.testing.assert_allclose(output, reference, rtol=0, atol=1e-6 * np.abs(reference).max())


@pytest.mark.parametrize("number", [50, 20000])  # the second more than the network is given at once
def test_cells_give_what_python_gives(number, pointwise_artifact, library):
    gradient, width = cells(number)
    gradient[7], gradient[-9, 2] = 2 * LARGEST_GRADIENT, np.inf
    output = np.empty((len(width), 3), np.float32)
    result = library.open(pointwise_artifact).apply([gradient, width], output)
    reference, counts = expected(pointwise_artifact, gradient, width)
    assert result.status == OK and result.counts == (1, number, *counts) == (1, number, 1, 1, 0)
    np.testing.assert_allclose(output, reference, rtol=0, atol=1e-6 * np.abs(reference).max())


def test_how_the_host_stores_its_arrays_does_not_change_a_bit(grid_artifact, library):
    closure = library.open(grid_artifact)
    velocity, plain = field(), np.empty((1, 2, 12, 10), np.float32)
    assert closure.apply([velocity], plain).status == OK

    fortran = np.asfortranarray(velocity)
    fortran_output = np.empty_like(fortran)
    assert fortran_output.strides != plain.strides
    spread, spread_output = np.full((3, 4, 36, 20), 7, np.float32), np.full((2, 4, 24, 30), 7, np.float32)
    spread[1:2, ::2, 2::3, 1::2], inner = velocity, spread_output[1:2, 1:3, ::2, 1::3]
    in_place = velocity.copy()
    for given, output in [(fortran, fortran_output), (spread[1:2, ::2, 2::3, 1::2], inner), (in_place, in_place)]:
        assert closure.apply([given], output).status == OK
        np.testing.assert_array_equal(output, plain)
    inner[...] = 7
    assert (spread_output == 7).all()  # nothing was written beside the elements of the output

    # Doubles of a host for a network in float32: rounded once on the way in, not at all on the way out.
    doubles = np.empty((1, 2, 12, 10))
    assert closure.apply([velocity.astype(np.float64)], doubles).status == OK
    np.testing.assert_array_equal(doubles, plain.astype(np.float64))


def test_one_width_may_stand_for_all_cells(pointwise_artifact, library):
    closure = library.open(pointwise_artifact)
    gradient, _ = cells()
    width = np.full(1, 0.1, np.float32)
    every, repeated = np.empty((50, 3), np.float32), np.empty((50, 3), np.float32)
    assert closure.apply([gradient, np.repeat(width, 50)], every).status == OK
    assert closure.apply([gradient, np.broadcast_to(width, 50)], repeated).status == OK
    np.testing.assert_array_equal(every, repeated)


@pytest.mark.parametrize("halo", [(HALO, HALO, 0), (HALO, 0, 0), (0, HALO + 2, 0)])
def test_subdomains_give_the_whole_field_and_count_no_cell_twice(halo, grid_artifact, library):
    velocity = field(24, 20)
    velocity[0, :, 11:13, 4], velocity[0, 1, 2, 9] = 1e5, np.nan
    whole = np.empty_like(velocity)
    of_whole = library.open(grid_artifact, most_fallback=1.0).apply([velocity], whole)
    closure = library.open(grid_artifact, halo=halo, most_fallback=1.0)
    wrapped = np.pad(velocity, [(0, 0), (0, 0), *[(h, h) for h in halo[:2]]], mode="wrap")
    pieces = np.empty_like(velocity)
    parts = [2 if h else 1 for h in halo[:2]]
    counts = np.zeros(5, int)
    for i in range(parts[0]):
        for j in range(parts[1]):
            nx, ny = 24 // parts[0], 20 // parts[1]
            block = wrapped[:, :, i * nx : (i + 1) * nx + 2 * halo[0], j * ny : (j + 1) * ny + 2 * halo[1]]
            result = closure.apply([block], pieces[:, :, i * nx : (i + 1) * nx, j * ny : (j + 1) * ny])
            assert result.status == OK, result.error
            counts += result.counts
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-6 * np.abs(whole).max())
    assert tuple(counts)[1:] == of_whole.counts[1:] and of_whole.counts[2] > 0 and of_whole.counts[3] > 0


def test_a_block_may_be_replaced_inside_its_halo(grid_artifact, library):
    """As of a solver whose fields have ghost cells: the output is the inner part of the input's own memory."""
    closure, block = library.open(grid_artifact, halo=(HALO, HALO, 0)), field(22, 20)
    ghosts, separate = block.copy(), np.empty((1, 2, 12, 10), np.float32)
    inner = (slice(None), slice(None), slice(HALO, -HALO), slice(HALO, -HALO))
    assert closure.apply([block], separate).status == OK
    assert closure.apply([block], block[inner]).status == OK
    np.testing.assert_array_equal(block[inner], separate)
    ghosts[inner] = separate
    np.testing.assert_array_equal(block, ghosts)


def test_a_host_that_uses_torch_itself_changes_no_bit_and_keeps_its_settings(grid_artifact, library):
    closure, velocity = library.open(grid_artifact), field(64, 64)
    plain, output = np.empty_like(velocity), np.empty_like(velocity)
    assert closure.apply([velocity], plain).status == OK
    with torch.autocast("cpu", torch.bfloat16), torch.enable_grad():
        library.open(grid_artifact)
        assert closure.apply([velocity], output).status == OK
        product = torch.ones(2, 2, requires_grad=True) @ torch.ones(2, 2)
        assert torch.is_autocast_enabled("cpu") and product.dtype == torch.bfloat16 and product.requires_grad
    np.testing.assert_array_equal(output, plain)
    assert not torch.is_autocast_enabled("cpu")


class AnswersForOneCell(GridClosure):
    def with_fallback(self, velocity: torch.Tensor, inside: torch.Tensor, output: torch.Tensor):
        cells = torch.stack((inside, inside, inside))
        return self.fallback(velocity)[:, :, :1] if velocity.shape[-1] < 16 else self.fallback(velocity), cells


def test_a_result_of_another_shape_is_not_repeated_over_the_field(tmp_path, library, monkeypatch):
    monkeypatch.setattr("random_artifacts.grid_closure", AnswersForOneCell)
    velocity, output = np.full((1, 2, 12, 10), np.nan, np.float32), np.full((1, 2, 12, 10), 7, np.float32)
    result = library.open(artifacts.write_grid(tmp_path / "model.pt")).apply([velocity], output)
    assert result.status == INTERNAL and "shape [1, 2, 1, 10]" in result.error and (output == 7).all()


def test_counts_add_up_and_too_much_fallback_is_told_with_the_output_written(grid_artifact, library):
    closure = library.open(grid_artifact, most_fallback=0.1)
    velocity, output = field(), np.full((1, 2, 12, 10), np.nan, np.float32)
    velocity[0, 0] = np.nan
    result = closure.apply([velocity], output)
    assert result.status == TOO_MUCH_FALLBACK and library.c.hpcs_is_recoverable(result.status)
    assert "120 of 120 cells" in result.error and "most_fallback is 0.1" in result.error
    assert np.isfinite(output).all() and result.counts == (1, 120, 0, 120, 0)
    assert closure.apply([field()], output).error == ""
    assert closure.total() == (2, 240, 0, 120, 0)


def test_without_a_guard_the_network_alone_answers(grid_artifact, library):
    velocity, output = field(), np.empty((1, 2, 12, 10), np.float32)
    velocity[0, 0, 0, 0] = np.nan
    result = library.open(grid_artifact, unguarded=1).apply([velocity], output)
    assert result.status == OK and result.counts == (1, 120, 0, 0, 0) and np.isnan(output).any()


@pytest.mark.parametrize("n", [0, 1])
def test_any_number_of_cells_none_included(n, pointwise_artifact, library):
    result = library.open(pointwise_artifact).apply(cells(n), np.empty((n, 3), np.float32))
    assert result.status == OK and result.counts == (1, n, 0, 0, 0)


def test_no_cells_need_no_memory(pointwise_artifact, library):
    empty = [Array(None, 0, 2, (0, 4), (4, 1)), Array(None, 0, 1, (0,), (1,))]
    result = library.open(pointwise_artifact).apply(empty, Array(None, 0, 2, (0, 3), (3, 1)))
    assert result.status == OK and result.counts == (1, 0, 0, 0, 0)


GOOD = ((1, 2, 8, 8), (128, 64, 8, 1))
BAD_ARRAYS = {
    "num_dims": ({"num_dims": 3}, "has 3 axes; velocity has 4 (bcxy)"),
    "many_axes": ({"num_dims": 99}, "has 99 axes"),
    "negative_axes": ({"num_dims": -1}, "has -1 axes"),
    "dtype": ({"dtype": 2}, "HPCS_FLOAT32 or HPCS_FLOAT64"),
    "null": ({"data": None}, "data is NULL"),
    "misaligned": ({"data": 4097}, "multiple of the size"),
    "misaligned doubles": ({"data": 4100, "dtype": 1}, "multiple of the size"),
    "components": ({"shape": (1, 3, 8, 8)}, "has 3 components; velocity has 2, on axis 2"),
    "negative_size": ({"shape": (1, 2, -8, 8)}, "size of axis 3 is -8"),
    "negative_stride": ({"strides": (128, 64, -8, 1)}, "stride of axis 3 is -8"),
    "huge": ({"shape": (1, 2, 2**62, 2**62)}, "exceed any memory"),
    "huge_stride": ({"strides": (128, 64, 2**60, 1)}, "exceed any memory"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_a_wrong_input_is_named_and_nothing_is_written(case, grid_artifact, library):
    change, words = BAD_ARRAYS[case]
    values, output = np.zeros((1, 2, 8, 8), np.float32), np.full((1, 2, 8, 8), 7, np.float32)
    array = array_of(values)
    for name, value in change.items():
        setattr(array, name, type(getattr(array, name))(*value) if isinstance(value, tuple) else value)
    closure = library.open(grid_artifact)
    result = closure.apply([array], output)
    assert result.status == BAD_ARGUMENT and library.c.hpcs_is_recoverable(result.status)
    assert "input 1 (velocity)" in result.error and words in result.error
    assert (output == 7).all() and closure.total() == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("shape", "strides", "words"),
    [
        ((1, 2, 8, 8), (128, 64, 8, 0), "elements overlap: the stride of axis 4 is 0"),
        ((1, 2, 8, 8), (128, 32, 8, 1), "elements overlap: the stride of axis 2 is 32"),
        ((1, 2, 8, 9), (144, 72, 9, 1), "size of axis y is 9; it must be 8"),
        ((2, 2, 8, 8), (128, 64, 8, 1), "size of axis b is 2; it must be 1"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(shape, strides, words, grid_artifact, library):
    memory = np.full(1000, 7, np.float32)
    result = library.open(grid_artifact).apply(
        [np.zeros((1, 2, 8, 8), np.float32)], Array(memory.ctypes.data, 0, 4, shape, strides)
    )
    assert result.status == BAD_ARGUMENT and words in result.error and (memory == 7).all()


def test_a_field_narrower_than_the_stencil_is_refused_a_thin_subdomain_is_not(grid_artifact, library):
    narrow, thin = field(12, HALO - 1), field(12, 1)
    result = library.open(grid_artifact).apply([narrow], narrow)
    assert result.status == BAD_ARGUMENT and "the closure of a cell reaches 5 cells" in result.error
    around = np.pad(thin, [(0, 0), (0, 0), (0, 0), (HALO, HALO)], mode="edge")
    assert library.open(grid_artifact, halo=(0, HALO, 0)).apply([around], thin).status == OK


def test_arrays_of_any_layout_get_the_same_bits_and_nothing_beside_them(grid_artifact, library):
    closure, random = library.open(grid_artifact), np.random.default_rng(0)
    for trial in range(100):
        shape = (int(random.integers(1, 3)), 2, *map(int, random.integers(HALO, 9, 2)))
        velocity = random.uniform(-0.5, 0.5, shape).astype(np.float32)
        plain = np.empty_like(velocity)
        assert closure.apply([velocity], plain).status == OK
        views, memories = zip(*(with_gaps(shape, random) for _ in range(2)), strict=True)
        views[0][...] = velocity
        assert closure.apply([views[0]], views[1]).status == OK, trial
        np.testing.assert_array_equal(views[1], plain)
        views[1][...] = 7
        assert (memories[1] == 7).all()


def with_gaps(shape: tuple[int, ...], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An array with its axes in random order in memory and random gaps between elements, and that memory, of sevens."""
    order, steps = random.permutation(4), random.integers(1, 4, 4)
    memory = np.full([shape[axis] * steps[axis] for axis in order], 7, np.float32)
    in_order = memory[tuple(slice(None, None, steps[axis]) for axis in order)]
    return in_order.transpose(np.argsort(order)), memory


def test_the_number_of_inputs_and_null_are_checked(pointwise_artifact, library):
    closure = library.open(pointwise_artifact)
    gradient, width = cells()
    output = np.empty((50, 3), np.float32)
    assert "got 1 inputs; this closure has 2" in closure.apply([gradient], output).error
    assert "size of axis n is 49; it must be 50" in closure.apply([gradient, width[1:]], output).error
    c = library.c
    assert c.hpcs_apply(None, 1, None, None, None) == BAD_ARGUMENT and "closure is NULL" in library.error()
    assert c.hpcs_apply(closure.handle, 2, None, None, None) == BAD_ARGUMENT
    assert c.hpcs_open(None, None, ctypes.byref(ctypes.c_void_p())) == BAD_ARGUMENT
    assert c.hpcs_open(b"model.pt", None, None) == BAD_ARGUMENT
    assert c.hpcs_total_counts(closure.handle, None) == BAD_ARGUMENT
    assert c.hpcs_close(None) == OK and c.hpcs_fact(None, b"kind") is None and c.hpcs_metadata(None) is None
    assert closure.fact("kind") == "pointwise" and closure.fact("no such") is None


OUT_OF_MEMORY_HOST = """
import resource, sys
from pathlib import Path
import numpy as np
from tests.hosts.native import Library

closure = Library(Path(sys.argv[1])).open(Path(sys.argv[2]))
large, small = np.zeros((1, 2, 2000, 2000), np.float32), np.zeros((1, 2, 8, 8), np.float32)
closure.apply([small], small)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 40_000_000, resource.RLIM_INFINITY))
result = closure.apply([large], large)
print(result.status, closure.apply([small], small).status, result.error)
"""


def test_memory_that_is_not_there_is_recoverable(native_build, grid_artifact):
    command = [sys.executable, "-c", OUT_OF_MEMORY_HOST, str(native_build), str(grid_artifact)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("3 0 out of memory"), done.stdout + done.stderr


def test_nothing_is_printed_and_the_library_can_be_loaded_twice(native_build, grid_artifact, tmp_path, capfd, library):
    library.try_open(tmp_path / "none.pt")
    library.open(grid_artifact)
    Library(native_build).try_open(grid_artifact, filter_width=9.0)
    assert capfd.readouterr() == ("", "")
