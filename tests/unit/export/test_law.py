"""The artifact of a fluid's law: what it holds, what its guard does, and what is refused."""

import pytest
import torch
from torch import Tensor

from hpcsurrogate.core.errors import ModelRefusedError, ShapeError
from hpcsurrogate.embed.artifact import check_golden, load_artifact
from hpcsurrogate.embed.card import inspect_artifact
from hpcsurrogate.embed.card_use import usage
from hpcsurrogate.export.certificate_law import measure_law_residuals
from hpcsurrogate.export.law import write_law
from hpcsurrogate.export.law_closure import NewtonianLaw
from hpcsurrogate.export.verify import verify_artifact
from hpcsurrogate.models.viscous_law import ViscousLaw
from tests.law_artifact import NEWTON, RANGE, describe, make_cells, make_law


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("law") / "law.pt"
    metadata = write_law(path, make_law(), describe(), make_cells())
    return path, metadata


def test_the_file_answers_as_the_ensemble_and_gives_stress_and_error_by_their_names(written):
    artifact, cells = load_artifact(written[0]), make_cells(17)
    output = artifact(*cells)
    assert torch.allclose(output, make_law()(*cells), rtol=1e-13, atol=1e-13)
    parts = artifact.split(output)
    assert list(parts) == ["stress", "stress_error"] and all(part.shape == (17, 6) for part in parts.values())
    assert (parts["stress_error"] > 0).all()
    assert [port.unit for port in artifact.metadata.inputs] == ["m/sigma^3", "epsilon/k", "1/tau"]
    assert ViscousLaw.of_weights(artifact.weights).members == 4


def test_the_file_says_what_is_exact(written):
    residuals = written[1].certificate.residuals
    assert set(residuals) == {"rotation", "reflection", "spin", "dissipation", "newtonian_at_rest"}
    assert all(residuals[name] < 1e-12 for name in ("rotation", "reflection", "spin", "dissipation"))
    assert residuals["newtonian_at_rest"] < 1e-4
    assert verify_artifact(written[0])["residuals"].keys() == residuals.keys()
    text = inspect_artifact(written[0])
    assert "Newton's law" in text and "density" in text and "m/sigma^3" in text


def test_the_lines_of_its_card_run(written, monkeypatch):
    monkeypatch.chdir(written[0].parent)
    names = dict(zip(("density", "temperature", "velocity_gradient"), make_cells(3), strict=True))
    exec(usage(written[1], "law.pt")["python"], names)
    assert names["stress"].shape == names["error"].shape == (3, 6)


def test_residuals_find_a_law_that_keeps_nothing():
    def wrong(density: Tensor, temperature: Tensor, gradient: Tensor) -> Tensor:
        columns = gradient[:, (0, 1, 2, 4, 5, 8)]  # sees spin, and frames, and gives work back
        return torch.cat((columns.abs() - 2 * columns, columns), 1)

    residuals = measure_law_residuals(wrong, *make_cells())
    assert all(value > 0.05 for value in residuals.values() if value) and residuals["newtonian_at_rest"] < 1e-12


def test_inside_the_range_the_guard_changes_no_bit_and_outside_newton_answers(written):
    artifact, (density, temperature, gradient) = load_artifact(written[0]), make_cells()
    output, counts = artifact.guarded(density, temperature, gradient)
    assert sum(counts) == 0 and torch.equal(output, artifact(density, temperature, gradient))
    density, temperature, gradient = density.clone(), temperature.clone(), gradient.clone()
    density[0], temperature[1], gradient[2, 1], density[3], gradient[4, 0] = 0.2, 5.0, 100.0, torch.nan, torch.inf
    found, counts = artifact.guarded(density, temperature, gradient)
    assert counts == (3, 2, 0)
    assert torch.isfinite(found).all() and torch.equal(found[5:], output[5:])
    classical = artifact.classical(density, temperature, gradient)
    assert torch.equal(found[:5], classical[:5])
    assert torch.equal(found[:5, :6].abs(), found[:5, 6:])  # it vouches for nothing


def test_newtons_law_is_that_of_its_constants_and_never_dissipates_less_than_nothing():
    gradient = torch.zeros(2, 9, dtype=torch.float64)
    gradient[:, 1] = 0.3
    density, temperature = torch.tensor([0.8, 0.88]).double(), torch.tensor([1.0, 1.1]).double()
    stress = NewtonianLaw(NEWTON, RANGE)(density, temperature, gradient)[:, :6]
    viscosity = torch.tensor([1.0, 1.0 + 5 * 0.1 - 0.1]).double().exp()
    pressure = torch.tensor([2.0, 2.0 + 0.9 + 0.3]).double()
    zero = torch.zeros(2, dtype=torch.float64)
    expected = torch.stack((-pressure, 0.3 * viscosity, zero, -pressure, zero, -pressure), 1)
    assert torch.allclose(stress, expected, rtol=1e-6)


def test_a_solver_can_differentiate_through_the_file(written):
    density, temperature, gradient = make_cells(5)
    gradient.requires_grad_()
    stress = load_artifact(written[0])(density, temperature, gradient)[:, 1]
    (slope,) = torch.autograd.grad(stress.sum(), gradient)
    assert torch.allclose(slope[:, 1], slope[:, 3]) and (slope[:, 1] > 0).all()


def test_no_cell_is_no_fault_and_a_wrong_shape_is(written):
    artifact = load_artifact(written[0])
    nothing = torch.zeros(0, dtype=torch.float64)
    assert artifact.guarded(nothing, nothing, torch.zeros(0, 9, dtype=torch.float64))[0].shape == (0, 12)
    with pytest.raises(ShapeError, match="velocity_gradient of shape"):
        artifact(nothing, nothing, torch.zeros(0, 4, dtype=torch.float64))
    with pytest.raises(ShapeError, match="takes 3 arrays"):
        artifact(nothing, nothing)


def test_an_error_of_the_second_output_alone_is_found(written, tmp_path):
    """It is small beside a pressure: a difference over the largest value of all columns would not show it."""
    law = make_law()
    path = tmp_path / "law.pt"
    write_law(path, law, describe(), make_cells())
    artifact = load_artifact(path)
    scaled = artifact.golden_output.clone()
    scaled[:, 6:] *= 1 + 1e-9
    differing = artifact.__class__(**(vars(artifact) | {"golden_output": scaled}))
    with pytest.raises(ModelRefusedError, match="does not reproduce"):
        check_golden(differing)


def test_a_law_that_returns_what_is_not_finite_is_not_written(tmp_path):
    law = make_law()
    law.scales[6] = torch.inf
    with pytest.raises(ModelRefusedError, match="non-finite"):
        write_law(tmp_path / "law.pt", law, describe(), make_cells())
    assert not (tmp_path / "law.pt").exists()


def test_a_closure_of_a_filter_must_name_it():
    with pytest.raises(ValueError, match="has a filter and a host"):
        type(describe()).model_validate(describe().model_dump() | {"outputs": describe().inputs[:1]})
