import json
import math

import pytest
import safetensors
import torch
from torch import Tensor, nn

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.core.metadata import ArtifactMetadata
from hpcsurrogate.embed.artifact import load_artifact, relative_difference
from hpcsurrogate.export.parity import measure_parity, parity_table, random_inputs
from hpcsurrogate.export.stage import run_export

FIELD = torch.randn(1, 2, 16, 12, generator=torch.Generator().manual_seed(0))
CELLS = torch.randn(40, 4, generator=torch.Generator().manual_seed(1)), torch.full((40,), 0.1)


class Cubic(nn.Module):
    """A cubic polynomial of the field, whose last bits depend on the type."""

    def forward(self, velocity: Tensor) -> Tensor:
        return velocity**3 - 0.3 * velocity


@pytest.mark.parametrize("golden", [(FIELD,), CELLS])
def test_random_inputs_vary_in_size_and_strength_and_repeat(golden):
    inputs, again = (list(random_inputs(golden, 40)) for _ in range(2))
    assert all(
        torch.equal(a, b) for one, other in zip(inputs, again, strict=True) for a, b in zip(one, other, strict=True)
    )
    assert len({one[0].shape for one in inputs}) > 10
    assert all(array.dtype == torch.float32 and torch.isfinite(array).all() for one in inputs for array in one)
    assert len({round(float(one[0].abs().max()), 3) for one in inputs}) > 30


@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 3e-6), (torch.float64, 3e-12)])
def test_a_form_that_is_a_little_off_is_refused(dtype, off):
    network = Cubic()
    exact = measure_parity(network, {"same": network}, [FIELD.to(dtype)], 10)
    assert [difference.from_eager for difference in exact] == [0.0, 0.0]
    with pytest.raises(ModelRefusedError, match="off: differs from the trained network"):
        measure_parity(network, {"off": lambda velocity: (1 + off) * network(velocity)}, [FIELD.to(dtype)], 10)


def test_a_form_that_returns_nan_once_is_refused():
    calls = iter([False, True, False, False])
    with pytest.raises(ModelRefusedError, match="nan"):
        measure_parity(Cubic(), {"nan": lambda v: Cubic()(v) * (math.nan if next(calls) else 1)}, [FIELD], 4)


def test_distance_from_float64_is_round_off_and_stated_for_the_network_itself():
    (eager,) = measure_parity(Cubic(), {}, [FIELD], 10)
    assert eager.name == "eager" and 0 < eager.from_float64 < 1e-6
    (exact,) = measure_parity(Cubic(), {}, [FIELD.double()], 10)
    assert exact.from_float64 == 0.0
    assert parity_table([eager])[1].split() == ["eager", "0.0e+00", f"{eager.from_float64:.1e}"]


def test_relative_difference_is_over_the_largest_value():
    assert relative_difference(torch.tensor([1.0, 8.0]), torch.tensor([2.0, 8.0])) == 1 / 8


def test_export_writes_the_weights_with_their_metadata_and_a_report(experiment, paths, trained):
    with_weights = experiment.model_copy(
        update={"export": experiment.export.model_copy(update={"formats": ("safetensors",)})}
    )
    run_export(with_weights, paths)
    with safetensors.safe_open(paths.exported_weights, "pt") as stored:
        weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 it is no dict
        metadata = ArtifactMetadata.from_json(stored.metadata()["hpcsurrogate.json"])
    assert all(torch.equal(weights[name], tensor) for name, tensor in trained.state_dict().items())
    assert metadata == load_artifact(paths.model).metadata
    report = json.loads(paths.parity.read_text())
    assert [form["name"] for form in report["forms"]] == ["model, eager", "model.pt"]
    assert report["dtype"] == "float32" and report["forms"][1]["from_eager"] <= report["allowed_from_eager"] == 1e-6
    run_export(experiment, paths)
    assert not paths.exported_weights.exists()
    assert not paths.exported_weights.with_name("model.safetensors.sha256").exists()
