"""A closure in a program in Python: du/dt = closure(u) on one periodic staggered field, by Euler steps.

python closure.py run/model.pt
"""

import math
import sys

import torch

from hpcsurrogate.core.errors import HpcsurrogateError
from hpcsurrogate.embed.artifact import load_artifact

NX, NY, NUM_STEPS, MOST_FALLBACK = 64, 64, 10, 0.5


def vortices() -> torch.Tensor:
    """Velocity of shape (1, 2, NX, NY) [m/s]: u at ((i+1) h, (j+1/2) h), v at ((i+1/2) h, (j+1) h)."""
    faces, centres = torch.arange(1, NX + 1).double(), torch.arange(NX).double() + 0.5
    x_face, y_centre = 2 * math.pi * faces[:, None] / NX, 2 * math.pi * centres[None, :] / NY
    u = x_face.sin() * y_centre.cos()
    v = -y_centre.mT.cos() * x_face.mT.sin()
    return torch.stack((u, v))[None]


def run(path: str) -> None:
    """Advance and print one value and the counts."""
    closure = load_artifact(path)
    dtype = closure.golden_output.dtype
    velocity, time_step = vortices(), 0.01
    totals = torch.zeros(3, dtype=torch.int64)
    for _ in range(NUM_STEPS):
        acceleration, counts = closure.guarded(velocity.to(dtype))
        if sum(counts) > MOST_FALLBACK * NX * NY:
            time_step /= 2  # the flow has left what the network knows: go slower
        velocity = velocity + time_step * acceleration
        totals += torch.tensor(counts)
    outside, not_finite, failed = totals.tolist()
    cells = NUM_STEPS * NX * NY
    value = f"{float(velocity[0, 0, 5, 7]):.12f}"
    print(f"u {value} cells {cells} outside {outside} not finite {not_finite} failed {failed}")


if __name__ == "__main__":
    try:
        run(sys.argv[1])
    except HpcsurrogateError as error:
        sys.exit(f"closure.py: {error}")
