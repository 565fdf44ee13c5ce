"""One network through every form and every language of hosts: the same numbers as the eager network.

In float32 the network is itself off the exact result, by its round-off; what is promised then is that every host
repeats the eager float32 network to 1e-6, and in float64 the exact one to 1e-12. A host with float32 arrays that wants
1e-6 of the exact result takes an artifact in float64.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from hpcsurrogate.core.errors import ModelRefusedError, ShapeError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.embed.artifact import Artifact, load_artifact, manifest_path, relative_difference
from hpcsurrogate.embed.compiled import unpack
from hpcsurrogate.export import forms as run_forms
from hpcsurrogate.export.grid_closure import GridClosure
from hpcsurrogate.export.parity import measure_parity, random_inputs
from hpcsurrogate.export.pointwise import pointwise_closure
from hpcsurrogate.export.script import write_artifact
from hpcsurrogate.models.tensor_basis import TensorBasisStress
from tests.hosts.artifacts import write_pointwise_2d
from tests.hosts.compiled_form import compiled_form, write_torchscript
from tests.hosts.languages import Language
from tests.hosts.native import BAD_ARGUMENT, BAD_MODEL, OK

ALLOWED = {"float32": 1e-6, "float64": 1e-12}
ROUND_OFF_FLOAT32 = 1e-5  # of the network itself; what it is stands in the printed table


class Forms(NamedTuple):
    """The same network in all its forms."""

    eager: GridClosure
    torchscript: Path
    compiled: Path | None

    @property
    def dtype(self) -> str:
        return str(next(self.eager.parameters()).dtype).removeprefix("torch.")


def write_forms(folder: Path, dtype: torch.dtype, with_compiled: bool = True) -> Forms:
    eager = write_torchscript(folder / "model.pt", dtype)
    if not with_compiled:
        return Forms(eager, folder / "model.pt", None)
    write_artifact(folder / "model.pt2", compiled_form(dtype))
    return Forms(eager, folder / "model.pt", folder / "model.pt2")


@pytest.fixture(scope="module")
def forms(tmp_path_factory) -> Forms:
    return write_forms(tmp_path_factory.mktemp("parity"), torch.float32)


@pytest.fixture(scope="module")
def compiled(forms) -> Artifact:
    return load_artifact(forms.compiled, allow_compiled=True)


def fields(artifact: Artifact, number: int) -> list[np.ndarray]:
    """Random velocities (2, nx, ny) [m/s] within the trained range."""
    return [field[0].numpy() for (field,) in random_inputs(artifact.golden_inputs, number)]


def through_library(library, path: Path, **options) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    closure = library.open(path, **options)

    def apply(cases: list[np.ndarray]) -> list[np.ndarray]:
        outputs = [np.empty_like(case) for case in cases]
        for case, output in zip(cases, outputs, strict=True):
            result = closure.apply([case[None]], output[None])
            assert result.status == OK and result.counts[2:] == (0, 0, 0), result
        return outputs

    return apply


def through_language(name: str, path: Path, dtype: str) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    def apply(cases: list[np.ndarray]) -> list[np.ndarray]:
        answer = Language.build(name).apply(path, dtype, "grid", [(case,) for case in cases])
        assert answer.exit_code == 0 and answer.messages[-1].split()[3:] == ["0", "0", "0"], answer.messages
        return answer.results

    return apply


def through_python(artifact: Artifact) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    return lambda cases: [artifact(torch.from_numpy(case)[None])[0].numpy() for case in cases]


def measure(forms: Forms, library, num_inputs: int) -> dict[str, tuple[float, float]]:
    """Largest relative difference of every host from the eager network, in its own type and in float64."""
    cases = fields(load_artifact(forms.torchscript), num_inputs)
    hosts = {
        "Python, .pt": through_python(load_artifact(forms.torchscript)),
        "C, .pt": through_library(library, forms.torchscript),
        "C++, .pt": through_language("cpp", forms.torchscript, forms.dtype),
        "Fortran, .pt": through_language("fortran", forms.torchscript, forms.dtype),
    }
    if forms.compiled is not None:
        hosts["Python, .pt2"] = through_python(load_artifact(forms.compiled, allow_compiled=True))
        hosts["C, .pt2"] = through_library(library, forms.compiled, allow_compiled=1)
    with torch.no_grad():
        own = [forms.eager(torch.from_numpy(case)[None])[0] for case in cases]
        exact_network = forms.eager.double()
        exact = [exact_network(torch.from_numpy(case)[None].double())[0] for case in cases]
        forms.eager.to(own[0].dtype)
    table = {"eager": [np.asarray(output) for output in own]} | {name: host(cases) for name, host in hosts.items()}
    return {name: (largest_difference(found, own), largest_difference(found, exact)) for name, found in table.items()}


def largest_difference(found: list[np.ndarray], expected: list[torch.Tensor]) -> float:
    pairs = zip(found, expected, strict=True)
    return max(relative_difference(torch.tensor(one), other) for one, other in pairs)


def report(table: dict[str, tuple[float, float]], dtype: str, num_inputs: int) -> None:
    print(f"\n{num_inputs} random inputs, {dtype}\n{'host':<16}{'from eager':>12}{'from float64':>14}")
    for name, (own, exact) in table.items():
        print(f"{name:<16}{own:>12.1e}{exact:>14.1e}")


def test_every_host_repeats_the_eager_network(forms, library, is_long):
    num_inputs = 1000 if is_long else 40
    table = measure(forms, library, num_inputs)
    report(table, "float32", num_inputs)
    assert all(own <= ALLOWED["float32"] for own, _ in table.values())
    assert 0 < max(exact for _, exact in table.values()) <= ROUND_OFF_FLOAT32


def test_every_host_repeats_the_eager_network_in_float64(tmp_path, library, is_long):
    """The short form leaves out the compiled file: it would take another minute to make."""
    forms = write_forms(tmp_path, torch.float64, with_compiled=is_long)
    num_inputs = 1000 if is_long else 40
    table = measure(forms, library, num_inputs)
    report(table, "float64", num_inputs)
    assert all(max(distances) <= ALLOWED["float64"] for distances in table.values())


def test_a_float64_artifact_brings_float32_arrays_within_1e_6_of_the_exact_result(grid_artifact64, library):
    """What no float32 network can promise: its own round-off is larger on smooth fields."""
    artifact = load_artifact(grid_artifact64)
    cases = [case.astype(np.float32) for case in fields(artifact, 40)]
    outputs = through_library(library, grid_artifact64)(cases)
    exact = [artifact(torch.from_numpy(case)[None].double())[0] for case in cases]
    assert largest_difference(outputs, exact) <= 1e-6


@pytest.mark.parametrize("halo", [0, 5])
def test_the_compiled_guard_is_that_of_the_artifact(forms, compiled, halo):
    artifact = load_artifact(forms.torchscript)
    for batch, nx, ny in ((1, 20, 25), (3, 16, 16)):
        velocity = torch.randn(batch, 2, nx, ny, generator=torch.Generator().manual_seed(nx))
        calm, calm_counts = compiled.guarded(velocity, halo=halo)
        assert calm_counts == (0, 0, 0) and torch.equal(calm, compiled(velocity))
        velocity[0, 0, 9, 9], velocity[-1, 1, 3, 4], velocity[0, 1, 0, 0] = torch.nan, 1e30, -1e9
        output, counts = compiled.guarded(velocity, halo=halo)
        expected, expected_counts = artifact.guarded(velocity, halo=halo)
        assert counts == expected_counts and counts.not_finite > 0
        assert torch.isfinite(output).all() and relative_difference(output, expected) <= 1e-6
        usable = velocity.nan_to_num().clamp(-5, 5)
        assert relative_difference(compiled.classical(usable), artifact.classical(usable)) <= 1e-6


def test_the_compiled_file_says_the_same_of_itself(forms, compiled, library):
    artifact = load_artifact(forms.torchscript)
    assert compiled.metadata == artifact.metadata and torch.equal(compiled.golden_output, artifact.golden_output)
    native = library.open(forms.compiled, allow_compiled=1)
    facts = artifact.metadata.facts()
    assert {key: native.fact(key) for key in facts} == facts


def test_the_compiled_file_names_no_folder_of_the_machine_that_made_it(forms):
    content = forms.compiled.read_bytes()
    assert b"closure.wrapper.so" in content  # its entries are not packed
    for folder in (Path(torch.__file__).parent, tempfile.gettempdir()):
        assert f"{folder}/".encode() not in content


def test_compiled_code_takes_any_strides_and_refuses_what_it_would_misread(forms, compiled, library):
    velocity = torch.randn(1, 2, 24, 16, generator=torch.Generator().manual_seed(2))
    assert torch.equal(compiled(velocity.mT), compiled(velocity.mT.contiguous()))
    for wrong in (velocity[:, :1], velocity.double(), velocity[:, :, :6]):
        with pytest.raises(ShapeError):
            compiled(wrong)
    small = np.zeros((1, 2, 6, 16), np.float32)
    native = library.open(forms.compiled, allow_compiled=1)
    result = native.apply([small], np.empty_like(small))
    assert result.status == BAD_ARGUMENT and "at least 8 cells" in result.error


def test_compiled_code_is_refused_without_leave_and_for_another_machine(forms, library, monkeypatch):
    status, _ = library.try_open(forms.compiled)
    assert status == BAD_MODEL and "native code" in library.error()
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(ModelRefusedError, match="compiled for x86_64 processors"):
        unpack(forms.compiled.read_bytes(), forms.compiled)


def test_compiled_cells_get_what_the_artifact_gives(tmp_path, is_long):
    if not is_long:
        pytest.skip("long form: compiles another file, which takes a minute")
    artifact = load_artifact(write_pointwise_2d(tmp_path / "pointwise.pt"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        core = TensorBasisStress(2, channels=8, hidden_layers=2)
    closure, paths = pointwise_closure(core, artifact.metadata), RunPaths(tmp_path)
    run_forms.write_forms(("pt2",), paths, {paths.pointwise: closure}, {})
    assert manifest_path(paths.pointwise_compiled).exists()
    names = [form["name"] for form in json.loads(paths.parity.read_text())["forms"]]
    assert names == ["pointwise, eager", "pointwise.pt", "pointwise.pt2"]
    compiled = load_artifact(paths.pointwise_compiled, allow_compiled=True)
    measure_parity(closure, {"pointwise.pt2": compiled}, artifact.golden_inputs, 1000)
    gradient, width = (tensor.clone() for tensor in artifact.golden_inputs)
    gradient[3, 1], gradient[5], width[7] = torch.nan, 1e30, torch.inf
    (output, counts), (expected, expected_counts) = compiled.guarded(gradient, width), artifact.guarded(gradient, width)
    assert counts == expected_counts and counts.outside == 1 and counts.not_finite == 2
    assert torch.isfinite(output).all() and relative_difference(output[8:], expected[8:]) <= 1e-6
    assert compiled(gradient[:0], width[:0]).shape == (0, 3)
