"""OpenFOAM's own Smagorinsky as an artifact, through the library, beside the built-in model."""

import numpy as np
import pytest

from tests.openfoam.cases import Case, channel, step

NUM_STEPS = 50
# Both models are the same formula in another order of operations. From round-off, 1e-16 a step, the flows drift apart
# as disturbances grow; measured below 2e-13.
SAME = 1e-12


def run(case: Case, end: str, ranks: int, *model) -> tuple[dict[str, np.ndarray], str]:
    """Return the fields at the end, and the log, of a run with an LES model."""
    case.use_model(*model)
    log = case.solve(ranks)
    return {name: case.field(end, name) for name in ("U", "nut")}, log


@pytest.mark.parametrize(
    ("make_case", "end", "form", "ranks"),
    [
        pytest.param(channel, "10", "stress", 1, id="channel"),
        pytest.param(channel, "10", "eddyViscosity", 2, id="channel on 2 ranks"),
        pytest.param(step, "0.0005", "eddyViscosity", 1, id="step"),
        pytest.param(step, "0.0005", "stress", 2, id="step on 2 ranks"),
    ],
)
def test_equals_the_built_in_model(make_case, end, form, ranks, library, smagorinsky, tmp_path):
    expected, _ = run(make_case(tmp_path / "built-in", NUM_STEPS), end, ranks, "Smagorinsky")
    ours = "hpcsurrogate", f'artifact "{smagorinsky}"; form {form};', library
    result, log = run(make_case(tmp_path / "ours", NUM_STEPS), end, ranks, *ours)
    for name, values in expected.items():
        assert np.abs(result[name] - values).max() < SAME * np.abs(values).max(), name
    assert "exception trapping enabled" in log
    # Once at the start and once a step, in every cell of all ranks; none of them is Smagorinsky's of the fallback.
    num_cells = len(expected["nut"])
    assert f"of {num_cells * (NUM_STEPS + 1)} cells so far 0 got the classical closure" in log
