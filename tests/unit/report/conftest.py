"""A run directory with synthetic inputs of the report, in the true formats of couple, evaluate and train."""

import json
import math

import numpy as np
import pytest

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.paths import RunPaths

NX = 32
TIMES = np.linspace(0.0, 4.0, 81)
VORTICITY_TIMES = (0.0, 1.0, 2.0, 3.0, 4.0)
# name, role, order, grid, time to decorrelation, ms per time unit, constant, stable
LINES = (
    ("no closure", "bare", 2, NX, 0.32, 31.0, None, True),
    ("Smagorinsky", "classical", 2, NX, 0.41, 56.0, 0.09, True),
    ("dynamic Smagorinsky", "classical", 2, NX, 0.40, 120.0, None, True),
    ("gradient, order 2 & <4>", "classical", 2, NX, 0.2, 70.0, None, False),
    ("order 4 + hyperviscosity", "classical", 4, NX, 1.54, 60.0, 8.0, True),
    ("order 6 + hyperviscosity", "classical", 6, NX, 2.43, 66.0, 4.0, True),
    ("learned", "learned", 2, NX, 3.31, 362.0, None, True),
    ("order 6 + hyperviscosity, 96 x 96", "classical", 6, 96, 3.1, 190.0, 4.0, True),
    ("no closure, 96 x 96", "ladder", 2, 96, 0.78, 63.0, None, True),
    ("no closure, 128 x 128", "ladder", 2, 128, 1.43, 123.0, None, True),
    ("no closure, 256 x 256", "ladder", 2, 256, 3.59, 840.0, None, True),
)


def make_experiment() -> Experiment:
    host = {"kind": "finite_volume", "grid": (NX, NX), "time_step": 0.0125}
    return Experiment.model_validate(
        {
            "name": "synthetic",
            "run_dir": "run",
            "flow": {"viscosity": 2e-4},
            "host": host,
            "simulate": {"kind": "dns", "grid": (128, 128), "duration": 8.0, "snapshot_interval": 0.05},
            "prepare": {"split": {"train": (0, 1), "validation": (2,), "test": (3,)}},
            "train": {"engine": "none", "model": {"kind": "quadratic_stencil"}},
            "couple": {"duration": 4.0, "contenders": ({"name": "no closure", "closure": {"kind": "none"}},)},
        }
    )


def make_contender(line) -> dict:
    name, role, order, grid, time, cost, constant, stable = line
    return {
        "name": name, "role": role, "kind": "none", "grid": [grid, grid], "constant": constant,
        "host": {"kind": "finite_volume", "grid": [grid, grid], "order": order, "time_step": 0.0125 * NX / grid},
        "decorrelation_time": time, "decorrelation_times": [0.9 * time, 1.1 * time],
        "decorrelation_interval": [0.9 * time, 1.1 * time], "reached_end": False,
        "effective_grid": None if grid == NX and time < 0.32 else 40.0 * time + NX,
        "effective_grid_bound": "< 32" if time < 0.32 else None,
        "cost_ms_per_step": cost / 80, "cost_ms_per_time_unit": cost, "cost_ratio_step": cost / 31,
        "spectrum_log_error": 0.1 / time if stable else None, "energy_error": 0.02 if stable else None,
        "enstrophy_error": 0.05 if stable else None, "stable": stable, "endurance": None,
        "dissipation_error": -0.03 if stable else None,
        "ladder_of": None if grid == NX else "no closure" if role == "ladder" else name.split(",")[0],
        "rollout_error": 0.3 / (1 + time) if stable else None,
        "rollout_error_interval": [0.25 / (1 + time), 0.35 / (1 + time)] if stable else None,
        "similarity": time / 4 if stable else None, "similarity_interval": [time / 5, time / 3] if stable else None,
        "speed_up_over_classical": 0.2 * time if stable and time < 2 else None,
    }  # fmt: skip


def make_coupling() -> dict:
    return {
        "verdict": "The learned closure helped: it keeps the correlation above 0.95 for 3.31 s <at> 12 times the cost.",
        "helped": True, "correlation_threshold": 0.95, "num_starts": 2,
        "reference": {"source": "filtered DNS", "realisations": [3]},
        "contenders": [make_contender(line) for line in LINES],
        "best_classical": "order 6 + hyperviscosity", "learned": "learned",
        "equivalent": {"grid": 235.0, "cost_ms_per_time_unit": 610.0, "speed_up": 1.7},
    }  # fmt: skip


def random_vorticity(rng: np.random.Generator, count: int) -> np.ndarray:
    """Smooth periodic random fields (count, NX, NX) of unit strength times ten."""
    wavenumber = np.fft.fftfreq(NX, 1 / NX)
    damping = np.exp(-((np.hypot(wavenumber[:, None], wavenumber[None, :]) / 6) ** 2))
    fields = np.fft.ifft2(np.fft.fft2(rng.standard_normal((count, NX, NX))) * damping).real
    return 10 * fields / fields.std()


def make_fields() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    wavenumber = np.arange(1.0, NX // 2)
    reference = 2.0 * wavenumber**-3.0
    truth = random_vorticity(rng, len(VORTICITY_TIMES)).astype(np.float32)
    fields = {
        "times": TIMES, "wavenumber": wavenumber, "spectrum_reference": reference,
        "vorticity_times": np.array(VORTICITY_TIMES), "vorticity_reference": truth,
    }  # fmt: skip
    for index, (_, _, _, grid, time, _, _, stable) in enumerate(LINES):
        drift = 0.3 / time
        growth = np.where(TIMES > 1.5, np.nan, 1.0) if not stable else 1.0
        fields[f"correlation/{index}"] = np.nan_to_num(np.exp(math.log(0.95) * (TIMES / time) ** 2) * growth)
        fields[f"energy/{index}"] = 0.5 * (1 - 0.02 * drift * TIMES) * growth
        fields[f"enstrophy/{index}"] = 20 * (1 + 0.1 * drift * np.tanh(TIMES)) * growth
        fields[f"reference_energy/{index}"] = 0.5 + 0.01 * np.sin(TIMES)
        fields[f"reference_enstrophy/{index}"] = 20 + 0.5 * np.cos(TIMES)
        fields[f"spectrum/{index}"] = reference * (1 + drift * (wavenumber / 16) ** 2) * (1.0 if stable else np.nan)
        spread = np.linspace(-3, 3, 256) ** 3 / 9
        fields[f"reference_quantiles/{index}"] = np.stack((spread, np.linspace(0, 3, 256) ** 2))
        fields[f"quantiles/{index}"] = fields[f"reference_quantiles/{index}"] * (1 + drift) * (1 if stable else np.nan)
        if grid == NX:
            noise = random_vorticity(rng, len(VORTICITY_TIMES))
            share = np.array(VORTICITY_TIMES)[:, None, None] * 0.05 / time
            fields[f"vorticity/{index}"] = (truth + share * noise) * (1.0 if stable else np.nan)
    return fields


def make_evaluation() -> dict:
    def line(name, constant, correlation, stress):
        return {
            "name": name, "constant": constant, "correlation_force": correlation,
            "relative_error_force": 1 - correlation**2,
            "correlation_sgs_force": correlation / 2, "relative_error_sgs_force": 1.0, "correlation_stress": stress,
            "relative_error_stress": stress, "correlation_transfer": 0.4, "relative_error_transfer": 0.9,
            "backscatter_fraction": 0.0,
        }  # fmt: skip

    closures = [line("none", None, 0.0, None), line("smagorinsky", 0.1, 0.2, 0.1), line("learned", None, 0.85, None)]
    floor = {"bins_per_invariant": 8, "relative_error_stress": 0.61, "correlation_stress": 0.79}
    return {
        "target": "commutator", "num_snapshots": 40, "dns_backscatter_fraction": 0.43,
        "dns_stress_backscatter_fraction": 0.31, "one_point_floor": floor, "closures": closures,
    }  # fmt: skip


def make_training() -> list[dict]:
    lines = []
    for step in range(1, 121):
        record = {"phase": "apriori", "step": step, "epoch": step // 20, "loss": 0.2 + 0.8 * math.exp(-step / 25)}
        if step % 20 == 0:
            record["validation_loss"] = record["loss"] * 1.05
        lines.append(record | {"learning_rate": 1e-3, "seconds": 0.1})
    for step in range(121, 241):
        record = {"phase": "unrolled", "step": step, "epoch": 0, "loss": 0.1 * math.exp(-(step % 60) / 40) + 0.02}
        if step % 30 == 0:
            record["validation_loss"] = record["loss"] * 1.1
        lines.append(record | {"learning_rate": 1e-3, "seconds": 0.5, "window": 1 + (step - 121) // 60})
    return lines


@pytest.fixture
def experiment() -> Experiment:
    return make_experiment()


@pytest.fixture
def paths(tmp_path) -> RunPaths:
    """A run folder that holds everything the report reads."""
    paths = RunPaths(tmp_path / "run")
    write_json_atomic(paths.coupling, make_coupling())
    np.savez_compressed(paths.coupling_fields, **make_fields())
    write_json_atomic(paths.evaluation, make_evaluation())
    paths.metrics.write_text("".join(json.dumps(record) + "\n" for record in make_training()))
    return paths
