#!/usr/bin/env python
"""What a closure costs in OpenFOAM: pimpleFoam on a channel of 102,400 cells beside its own Smagorinsky.

Needs OpenFOAM (docs/openfoam.md). Runs of the contenders take turns; of the times of a step the median counts, since
others may use the machine. The share is that of the calls of the closure in the processor time of the same run.

    .venv/bin/python scripts/bench_openfoam.py [--rounds 3]
"""

import argparse
import re
import statistics
import sys
import tempfile
from pathlib import Path

import openfoam_build
import torch
from torch import Tensor, nn
from torch.nn import functional

from hpcsurrogate.models.quick_layers import quick_linear, quick_tanh

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.openfoam import artifacts, cases

CELLS = (40, 40, 32)  # in each half of the channel
NUM_STEPS = 10


class ViscosityNet(nn.Module):
    """nut = Delta^2 |G| f(G / |G|) with f a network 9-64-64-1 of random weights; tau_dev = -2 nut S_dev.

    `half`: the product of the hidden layers, most of the work, in bfloat16, whose errors of 0.4 % are in the viscosity
    alone. `bounded`: tanh in place of SiLU. `quick`: layers of models/quick_layers.py in place of torch's own.
    """

    def __init__(self, half: bool = False, bounded: bool = False, quick: bool = True):
        super().__init__()
        self.half, self.bounded, self.quick = half, bounded, quick
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.hidden, self.last = nn.Linear(9, 64), nn.Linear(64, 64), nn.Linear(64, 1)

    def activation(self, features: Tensor) -> Tensor:
        if not self.bounded:
            return functional.silu(features)
        return quick_tanh(features) if self.quick else torch.tanh(features)

    def forward(self, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        norm = velocity_gradient.square().sum(1, keepdim=True).sqrt()
        features = self.activation(self.first(velocity_gradient / norm.clamp_min(1e-30)))
        if self.half:
            weight, bias = self.hidden.weight.to(torch.bfloat16), self.hidden.bias.to(torch.bfloat16)
            features = functional.linear(features.to(torch.bfloat16), weight, bias).to(norm.dtype)
        elif not self.quick:
            features = self.hidden(features)
        else:
            features = quick_linear(features, self.hidden.weight, self.hidden.bias)
        coefficient = 0.01 * functional.softplus(self.last(self.activation(features)))
        viscosity = coefficient * filter_width.square().unsqueeze(1) * norm
        xx, xy, xz, yx, yy, yz, zx, zy, zz = velocity_gradient.unbind(1)
        mean = (xx + yy + zz) / 3
        twice_strain = torch.stack((2 * (xx - mean), xy + yx, xz + zx, 2 * (yy - mean), yz + zy, 2 * (zz - mean)), 1)
        return -viscosity * twice_strain


def measure(case: cases.Case) -> tuple[float, float | None]:
    """Run and return processor seconds a step, and seconds a call of the closure if there is one."""
    log = case.run(case.solver).stdout
    ends = [float(time) for time in re.findall(r"ExecutionTime = ([\d.]+) s", log)]
    closure = re.search(r"; (\S+) s in the closure", log)
    step = statistics.median(b - a for a, b in zip(ends[:-1], ends[1:], strict=True))
    return step, float(closure.group(1)) / (NUM_STEPS + 1) if closure else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as temporary:
        folder, library = Path(temporary), openfoam_build.library()
        networks = {
            "network 9-64-64-1": (ViscosityNet(), "eddyViscosity"),
            "the same, tanh": (ViscosityNet(bounded=True), "eddyViscosity"),
            "the same, plain linear": (ViscosityNet(quick=False), "eddyViscosity"),
            "plain linear and tanh": (ViscosityNet(bounded=True, quick=False), "eddyViscosity"),
            "the same, bfloat16": (ViscosityNet(half=True), "eddyViscosity"),
            "tensor basis 2x16": (artifacts.random_tensor_basis(channels=16), "stress"),
        }
        contenders = {"Smagorinsky of OpenFOAM": ("Smagorinsky",)}
        for name, (network, form) in networks.items():
            file = artifacts.write_artifact(folder / f"{name.replace(' ', '-')}.pt", network, dtype="float32")
            contenders[name] = ("hpcsurrogate", f'artifact "{file}"; form {form};', library)
        runs = {}
        for name, model in contenders.items():
            runs[name] = cases.channel(folder / name.replace(" ", "-"), NUM_STEPS, CELLS)
            # A Courant number of 0.5: above 1 the linear solver of the momentum diverges without much viscosity.
            runs[name].set("system/controlDict", deltaT="0.05", endTime=f"{0.05 * NUM_STEPS:g}")
            runs[name].use_model(*model)
        results = {name: [] for name in runs}
        for _ in range(rounds):
            for name, case in runs.items():
                results[name].append(measure(case))
        print(f"{'':24s} {'step [s]':>9s} {'closure [s]':>12s} {'share':>6s}")
        for name, measured in results.items():
            step = min(step for step, _ in measured)
            if measured[0][1] is None:
                print(f"{name:24s} {step:9.3f}")
            else:
                closure = min(closure for _, closure in measured)
                print(f"{name:24s} {step:9.3f} {closure:12.3f} {closure / step:6.1%}")


if __name__ == "__main__":
    main()
