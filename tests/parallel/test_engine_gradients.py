"""Ranks that train together must do what one rank does on the joined batch, whatever carries their gradients."""

import json

import pytest

LIMIT = 100  # seconds for a launch that takes about 5 on two idle cores

TRAINING = """
import json
import torch
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel import gradients
from hpcsurrogate.parallel.engine import clip_gradients, make_engine
from hpcsurrogate.parallel.world import World, get_world

gradients.BUCKET_SIZE = {"cpu": 400}  # bytes: several buckets
world = get_world()
samples = torch.Generator().manual_seed(1)
inputs = torch.randn(20, 24, 5, generator=samples, dtype=torch.float64)
targets = torch.randn(20, 24, 2, generator=samples, dtype=torch.float64)


def network(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)).double()


def flat(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def train(engine, seed, num_parts=1, compression="none"):
    module = network(seed)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    engine.broadcast(module, optimizer)
    averager = gradients.Gradients(engine, module.parameters(), num_parts, compression)
    norms = []
    for x, y in zip(inputs, targets):
        averager.begin()
        own = zip(x[engine.rank :: engine.size].chunk(num_parts), y[engine.rank :: engine.size].chunk(num_parts))
        for part, wanted in own:
            averager.backward(((module(part) - wanted) ** 2).mean())
        averager.finish()
        norms.append(clip_gradients(module.parameters(), 0.5))
        optimizer.step()
    return flat(module), torch.stack(norms)


def difference(one, other):
    return max((a - b).abs().max().item() for a, b in zip(one, other))


alone = train(make_engine("none", World()), seed=0)
report = {"moved": (alone[0] - flat(network(0))).abs().max().item(), "largest norm": alone[1].max().item()}
for kind in ("horovod", "torch"):
    engine = make_engine(kind, world)
    # every rank starts from weights of its own: only the broadcast makes them equal
    for num_parts in (1, 3):
        together = train(engine, world.rank, num_parts)
        report[f"{kind}, {num_parts} parts"] = difference(together, alone)
    for compression in ("float16", "bfloat16"):
        try:
            together = train(engine, world.rank, 1, compression)
        except ConfigError as error:
            report[f"{kind}, {compression}"] = str(error)
        else:
            report[f"{kind}, {compression}"] = difference(together, alone)
            assert all(torch.equal(together[0], other) for other in world.allgather(together[0]))
    engine.close()
print(json.dumps(report) + "\\n", end="", flush=True)
"""


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_train_as_one_with_the_joined_batch(run_mpi, ranks):
    """float64 sums in another order differ by 1e-16; 20 steps of AdamW enlarge that by no more than some powers of ten.

    Gradients that travel in 16 bits are rounded by 2**-11 (float16) or 2**-8 (bfloat16) of their size. AdamW divides
    them by their own mean size, so that 20 steps of 1e-2 go astray by less than 20 * 1e-2 * ten times the rounding.
    """
    reports = [json.loads(line) for line in run_mpi(TRAINING, ranks, LIMIT).splitlines()]
    assert len(reports) == ranks
    for report in reports:
        assert report["largest norm"] > 0.5  # clipping acted
        assert report["moved"] > 0.05  # 20 steps of 1e-2 did something
        for kind in ("horovod", "torch"):
            assert report[f"{kind}, 1 parts"] < 1e-10
            assert report[f"{kind}, 3 parts"] < 1e-10
            assert 1e-10 < report[f"{kind}, float16"] < 0.2 * 10 * 2.0**-11
        assert 1e-10 < report["torch, bfloat16"] < 0.2 * 10 * 2.0**-8
        assert "horovod cannot sum bfloat16" in report["horovod, bfloat16"]


STATE = """
import torch
from hpcsurrogate.parallel.engine import make_engine
from hpcsurrogate.parallel.world import get_world

world = get_world()
for kind in ("horovod", "torch"):
    engine = make_engine(kind, world)
    module = torch.nn.BatchNorm1d(3).double()
    groups = [{"params": [module.weight], "rate_factor": 0.5 + world.rank}, {"params": [module.bias]}]
    optimizer = torch.optim.AdamW(groups, lr=1.0 + world.rank, weight_decay=0.1)
    engine.broadcast(module, optimizer)
    assert optimizer.param_groups[0]["lr"] == 1.0 and not optimizer.state  # a broadcast is not a step
    assert optimizer.param_groups[0]["rate_factor"] == 0.5
    assert module.weight.eq(1).all()

    if world.rank == 0:  # rank 0 resumes from a checkpoint, the others have nothing
        module.running_mean += 7.0
        state = optimizer.state_dict()
        state["state"] = {i: {"step": torch.tensor(9.0), "exp_avg": torch.full((3,), 0.25, dtype=torch.float64),
                              "exp_avg_sq": torch.full((3,), 0.5, dtype=torch.float64)} for i in range(2)}
        optimizer.load_state_dict(state)
    engine.broadcast(module, optimizer)
    assert module.running_mean.eq(7).all()
    for parameter in module.parameters():
        assert optimizer.state[parameter]["step"] == 9 and optimizer.state[parameter]["exp_avg"].eq(0.25).all()

    print("fine\\n", end="", flush=True)
    engine.close()
"""


def test_rank_0_s_state_is_broadcast(run_mpi):
    assert run_mpi(STATE, ranks=2).split() == ["fine"] * 4
