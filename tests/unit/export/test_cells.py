"""Forces and Reynolds stresses that somebody wrote, through file, loader, verification and card."""

import pytest
import torch
from torch import Tensor, nn

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.embed.card_use import usage
from hpcsurrogate.export.cell_closure import EddyViscosityStress
from hpcsurrogate.export.cells import write_force, write_reynolds_stress
from hpcsurrogate.export.verify import verify_artifact


class Drag(nn.Module):
    """f = -c |u| u / Delta, or a wind that blows along x and knows nothing of the frame."""

    def __init__(self, coefficient: float, wind: float = 0.0):
        super().__init__()
        self.coefficient, self.wind = nn.Parameter(torch.tensor(coefficient)), wind

    def forward(self, velocity: Tensor, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        speed = velocity.square().sum(1, keepdim=True).sqrt()
        wind = self.wind * torch.tensor([1.0, 0.0, 0.0], dtype=velocity.dtype)
        return wind - self.coefficient * speed * velocity / filter_width.unsqueeze(1)


def cells(dtype=torch.float64, count=400) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Velocity, gradient without divergence, width, k and epsilon of cells."""
    generator = torch.Generator().manual_seed(0)
    velocity, gradient = torch.randn(count, 3, generator=generator), torch.randn(count, 9, generator=generator)
    gradient[:, 8] = -gradient[:, 0] - gradient[:, 4]
    positive = 0.5 + torch.rand(3, count, generator=generator)
    return tuple(values.to(dtype) for values in (velocity, gradient, *positive))


def test_a_drag_is_described_measured_and_kept_with_its_weight(tmp_path):
    velocity, gradient, width, *_ = cells()
    written = write_force(tmp_path / "drag.pt", Drag(0.2), (velocity, gradient, width), "drag")
    artifact = load_artifact(tmp_path / "drag.pt")
    metadata = artifact.metadata
    assert metadata == written and not metadata.is_law and metadata.filter is None
    assert [(port.field, port.unit) for port in metadata.outputs] == [("body_force", "m/s^2")]
    assert metadata.validity.velocity_magnitude[1] == pytest.approx(float(velocity.norm(dim=1).max()))
    assert artifact.weights["coefficient"] == pytest.approx(0.2)
    residuals = metadata.certificate.residuals
    # The units of 0.2 are none, those of a velocity in another frame are not.
    assert max(residuals[name] for name in ("rotation", "reflection", "change_of_units")) < 1e-12
    assert residuals["galilean_invariance"] > 0.1
    fast = 10 * velocity
    force, counts = artifact.guarded(fast, gradient, width)
    assert counts.outside > 300 and (force == 0).all(1).sum() == counts.outside
    assert verify_artifact(tmp_path / "drag.pt")["guard_holds"]


def test_a_wind_does_not_turn_with_the_frame_and_its_card_says_so(tmp_path):
    write_force(tmp_path / "wind.pt", Drag(0.2, wind=1.0), cells()[:3], "wind", dtype="float32")
    card = (tmp_path / "wind.md").read_text()
    assert "gets no force" in card and "body_force" in card and "symmetric" not in card
    assert [line for line in card.splitlines() if "frame turned" in line][0].endswith("not kept |")


def test_an_eddy_viscosity_is_exact(tmp_path):
    _, gradient, _, energy, dissipation = cells()
    given = gradient, energy, dissipation
    written = write_reynolds_stress(tmp_path / "linear.pt", EddyViscosityStress(0.07), given, "linear", cmu=0.09)
    assert max(written.certificate.residuals.values()) < 1e-12
    assert written.validity.gradient_magnitude[1] == pytest.approx(
        float((gradient.norm(dim=1) * energy / dissipation).max())
    )
    artifact = load_artifact(tmp_path / "linear.pt")
    steep = 1e3 * gradient
    stress, counts = artifact.guarded(steep, energy, dissipation)
    assert counts.outside > 300
    torch.testing.assert_close(artifact.classical(*given), 9 / 7 * artifact(*given))
    outside = steep.norm(dim=1) * energy / dissipation > written.validity.gradient_magnitude[1] * 1.001
    assert torch.equal(stress[outside], artifact.classical(steep, energy, dissipation)[outside])
    card = (tmp_path / "linear.md").read_text()
    assert "the eddy viscosity 0.09 k^2/epsilon" in card and "times k/epsilon" in card
    assert verify_artifact(tmp_path / "linear.pt")["certified"] == written.certificate.residuals


def test_the_lines_of_the_card_run(tmp_path):
    velocity, gradient, width, energy, dissipation = cells()
    force = write_force(tmp_path / "f.pt", Drag(0.2), (velocity, gradient, width), "f")
    stress = write_reynolds_stress(tmp_path / "r.pt", EddyViscosityStress(0.09), (gradient, energy, dissipation), "r")
    names = {"velocity": velocity, "velocity_gradient": gradient, "filter_width": width}
    names |= {"turbulent_energy": energy, "dissipation": dissipation}
    for metadata, file in ((force, "f.pt"), (stress, "r.pt")):
        exec(usage(metadata, str(tmp_path / file))["python"], names)
    assert names["body_force"].shape == (400, 3) and names["reynolds_stress"].shape == (400, 6)
    assert "{{velocity.data(), {n, 3}}, {velocity_gradient.data(), {n, 9}}," in usage(force, "f.pt")["cpp"]


@pytest.mark.parametrize("wrong", ["zero", "at rest"])
def test_what_gives_nothing_is_refused(wrong, tmp_path):
    velocity, gradient, width, *_ = cells()
    still = wrong == "at rest"
    with pytest.raises(ModelRefusedError, match="at rest" if still else "zeros"):
        write_force(tmp_path / "f.pt", Drag(0.0), (0 * velocity if still else velocity, gradient, width), "f")
    assert not (tmp_path / "f.pt").exists()


class InPlace(Drag):
    """Writes into a tensor, which no artifact may."""

    def forward(self, velocity: Tensor, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        force = torch.zeros_like(velocity)
        force[:, 0] = velocity[:, 0]
        return force


def test_what_no_host_would_load_is_refused_when_it_is_written(tmp_path):
    with pytest.raises(ModelRefusedError, match="copy_"):
        write_force(tmp_path / "f.pt", InPlace(1.0), cells()[:3], "f")
