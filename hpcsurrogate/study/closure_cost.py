"""What a call of a network costs inside a solver: one state, one thread. Known before it is trained."""

import time
from pathlib import Path

import torch

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.models.build import build_model
from hpcsurrogate.study.locks import waiting_lock

WARM_UP_CALLS = 3
ROUNDS = 9
ROUND_SECONDS = 0.01


def known_milliseconds(experiment: Experiment, folder: Path) -> float:
    """Time of one call of the experiment's network, measured once for each network in a search's folder.

    Equal networks then cost the same to the last digit: the noise of a second measurement would pass for a difference.

    Returns
    -------
    float [ms]
    """
    network = digest({"model": experiment.train.model, "grid": experiment.host.grid})
    file = folder / "closure-milliseconds.json"
    with waiting_lock(folder / "closure.lock"):
        known = read_json(file) if file.exists() else {}
        if network not in known:
            known[network] = closure_milliseconds(experiment)
            write_json_atomic(file, known)
        return known[network]


@torch.inference_mode()
def closure_milliseconds(experiment: Experiment) -> float:
    """Time of one call of the experiment's network, untrained, on one velocity field of the host's grid.

    Returns
    -------
    float [ms]    the fastest of several rounds: others may work on the machine, and they can only add to it
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        module = build_model(experiment.train.model, experiment.host, experiment.flow, None).eval()
        velocity = torch.randn(1, 2, *experiment.host.grid)
        _seconds_a_call(module, velocity, WARM_UP_CALLS)
        calls = max(1, round(ROUND_SECONDS / _seconds_a_call(module, velocity, WARM_UP_CALLS)))
        return 1e3 * min(_seconds_a_call(module, velocity, calls) for _ in range(ROUNDS))
    finally:
        torch.set_num_threads(num_threads)


def _seconds_a_call(module: torch.nn.Module, velocity: torch.Tensor, calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        module(velocity)
    return (time.perf_counter() - started) / calls
