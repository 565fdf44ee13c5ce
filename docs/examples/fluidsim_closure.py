"""A trained closure in fluidsim, a pseudo-spectral solver of others, for decaying two-dimensional turbulence.

    pip install hpcsurrogate[hosts]
    python fluidsim_closure.py run/model.pt

The artifact must be for a collocated host of this grid spacing and flow: see `hpcsurrogate inspect run/model.pt`.
fluidsim keeps arrays as (y, x), the artifact takes (batch, component, x, y).
"""

import math
import sys

import numpy as np
import torch
from fluidsim.base.setofvariables import SetOfVariables
from fluidsim.solvers.ns2d.solver import Simul

from hpcsurrogate.embed.artifact import Artifact, load_artifact


def with_closure(closure: Artifact) -> type[Simul]:
    """Return fluidsim's solver with the closure's acceleration in its equation of motion.

    Its `counts` adds up how many cells, over all calls, got the classical closure (`FallbackCounts`).
    """

    class ClosedSimul(Simul):
        counts = np.zeros(3, dtype=np.int64)

        def tendencies_nonlin(
            self, state_spect: SetOfVariables | None = None, old: SetOfVariables | None = None
        ) -> SetOfVariables:
            tendencies = super().tendencies_nonlin(state_spect, old)
            state = self.state.state_spect if state_spect is None else state_spect
            velocity_hat = self.oper.vecfft_from_rotfft(state.get_var("rot_fft"))
            velocity = np.stack([self.oper.ifft(component).T for component in velocity_hat])
            acceleration, counts = closure.guarded(torch.from_numpy(velocity[None]).to(closure.golden_output.dtype))
            forces = acceleration[0].double().numpy()
            fx_hat, fy_hat = (self.oper.fft(np.ascontiguousarray(force.T)) for force in forces)
            curl_hat = self.oper.rotfft_from_vecfft(fx_hat, fy_hat)  # what the pressure would take up drops out
            self.oper.dealiasing(curl_hat)
            tendencies += curl_hat
            self.counts = self.counts + np.array(counts)
            return tendencies

    return ClosedSimul


def decaying_turbulence(solver: type[Simul], num_points: int, time_step: float, num_steps: int) -> Simul:
    """Return a simulation that begins with random eddies in a square of 2 pi [m]; `time_step` [s]."""
    params = solver.create_default_params()
    params.oper.nx = params.oper.ny = num_points
    params.oper.Lx = params.oper.Ly = 2 * math.pi
    params.nu_2 = 1e-3
    params.init_fields.type = "noise"
    params.time_stepping.USE_CFL = params.time_stepping.USE_T_END = False
    params.time_stepping.deltat0, params.time_stepping.it_end = time_step, num_steps
    params.output.HAS_TO_SAVE = False
    return solver(params)


if __name__ == "__main__":
    torch.set_num_threads(1)  # as many as the solver has
    simulation = decaying_turbulence(with_closure(load_artifact(sys.argv[1])), 64, 0.01, 200)
    simulation.time_stepping.start()
    print(f"energy {simulation.state.compute_energy_phys():.4f} m^2/s^2, cells that fell back: {simulation.counts}")
