"""A solver whose model is not what it should be hears of it when it starts, in every language, and never later."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import random_artifacts
import torch
from numpy.testing import assert_array_equal

from hpcsurrogate.core.errors import HpcsurrogateError
from hpcsurrogate.embed.artifact import load_artifact, manifest_path
from hpcsurrogate.export.script import artifact_bytes, script_module, write_artifact
from tests.hosts import artifacts
from tests.hosts.languages import NAMES, Language

BAD_MODEL, MISFIT = "10", "11"


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return artifacts.write_grid(tmp_path_factory.mktemp("good") / "model.pt")


@pytest.fixture(scope="module", params=NAMES)
def language(request) -> Language:
    return Language.build(request.param)


def copy(good: Path, target: Path) -> Path:
    shutil.copyfile(good, target)
    shutil.copyfile(manifest_path(good), manifest_path(target))
    return target


def of_another_schema(good: Path, path: Path) -> Path:
    """What a later version of this package may write: whole, sealed, and unknown here."""
    artifact = load_artifact(good)
    velocity = artifact.golden_inputs[0]
    closure = random_artifacts.random_closure({"kind": "quadratic_stencil"}, artifacts.HOST, artifacts.FLOW, velocity)
    metadata = artifact.metadata.model_copy(update={"schema_version": 99})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pydantic's, of a number that this version does not know
        content = artifact_bytes(script_module(closure), metadata, [velocity], artifact.golden_output)
    write_artifact(path, content)
    return path


def bad_models(good: Path, folder: Path) -> dict[Path, str]:
    """Files that no solver should start with -> a word of what it is told."""
    content = good.read_bytes()
    cut, changed, alone, foreign = (
        copy(good, folder / f"{name}.pt") for name in ("cut", "changed", "alone", "foreign")
    )
    cut.write_bytes(content[: len(content) // 2])
    changed.write_bytes(content.replace(b"forward", b"forwarD", 1))
    manifest_path(alone).unlink()
    manifest_path(foreign).write_text(f"{'0' * 64}  model.pt\n")
    empty, compiled = folder / "empty.pt", copy(good, folder / "model.pt2")
    write_artifact(empty, b"")
    return {
        folder / "none.pt": "file is missing", folder / "nowhere" / "model.pt": "file is missing",
        folder: "cannot be read", empty: "no TorchScript archive", cut: "SHA-256", changed: "SHA-256",
        alone: "copy it along", foreign: "SHA-256", of_another_schema(good, folder / "later.pt"): "schema_version",
        compiled: "native code",
    }  # fmt: skip


@pytest.mark.fault(44, "model missing, damaged, without checksum or of another schema when a solver starts")
def test_a_bad_model_is_a_start_up_error_of_a_native_solver(language, good, tmp_path, fault):
    bad = bad_models(good, tmp_path)
    width = load_artifact(good).metadata.filter.width
    lines = language.open(width, *bad, good)
    assert lines[-2:] == [f"0 {load_artifact(good).metadata.name}", "the solver lives"]
    for (path, word), line in zip(bad.items(), lines[:-2], strict=True):
        status, message = line.split(maxsplit=1)
        assert status == BAD_MODEL and message.startswith(str(path)) and word in message
    fault.withstood(len(bad))


@pytest.mark.fault(44, "model missing, damaged, without checksum or of another schema when a solver starts")
def test_a_bad_model_is_a_start_up_error_of_a_python_solver(good, tmp_path, fault):
    for path, word in bad_models(good, tmp_path).items():
        with pytest.raises(HpcsurrogateError) as refusal:
            load_artifact(path)
        assert word in str(refusal.value) and "\n" not in str(refusal.value)
        fault.withstood()


@pytest.mark.fault(44, "model of another solver when a solver starts")
def test_a_model_for_another_solver_is_a_start_up_error(language, good, tmp_path, fault):
    width = load_artifact(good).metadata.filter.width
    cells = artifacts.write_pointwise_2d(tmp_path / "cells.pt")
    lines = language.open(0.5 * width, good, cells)
    assert [line.split()[0] for line in lines[:-1]] == [MISFIT, MISFIT]
    assert "filter width" in lines[0] and lines[-1] == "the solver lives"
    fault.withstood(2)


@pytest.mark.fault(44, "model removed or overwritten while a solver runs")
@pytest.mark.parametrize("replaced_by", [None, b"", b"no model at all"])
def test_a_solver_that_has_started_needs_its_file_no_more(language, good, tmp_path, replaced_by, fault):
    path = copy(good, tmp_path / "model.pt")
    velocity = np.random.default_rng(1).normal(size=(2, 24, 16))
    expected = language.apply(path, "float32", "grid", [(velocity,)])
    solver = language.start(path, "float32", "grid")
    opened = solver.stderr.readline()
    path.unlink() if replaced_by is None else path.write_bytes(replaced_by)
    manifest_path(path).unlink()
    answer = language.finish(solver, "float32", [(velocity,), (velocity,)])
    assert opened == b"opened\n" and answer.exit_code == 0
    for result in answer.results:
        assert_array_equal(result, expected.results[0])
    assert len(answer.results) == 2
    fault.withstood()


@pytest.mark.fault(44, "model removed or overwritten while a solver runs")
def test_a_python_solver_that_has_started_needs_its_file_no_more(good, tmp_path):
    path = copy(good, tmp_path / "model.pt")
    closure = load_artifact(path)
    velocity = closure.golden_inputs[0]
    expected = closure(velocity)
    path.write_bytes(b"no model at all")
    torch.testing.assert_close(closure(velocity), expected, rtol=0, atol=0)


@pytest.mark.fault(44, "model missing, damaged, without checksum or of another schema when a solver starts")
def test_a_solver_that_does_not_go_on_ends_with_a_line_and_no_abort(language, good, tmp_path):
    path = copy(good, tmp_path / "model.pt")
    path.write_bytes(path.read_bytes()[:-1])
    solver = language.start(path, "float64", "grid")
    answer = language.finish(solver, "float64", [])
    assert answer.exit_code == 1  # a signal would be negative, a failed assertion of C++ 134
    assert answer.messages[0].startswith("fatal 10 ") and "SHA-256" in answer.messages[0]
