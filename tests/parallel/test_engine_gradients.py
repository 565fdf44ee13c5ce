"""Ranks that train together must do what one rank does on the joined batch."""

import re

TRAINING = """
import sys
import torch
from hpcsurrogate.parallel.engine import make_engine
from hpcsurrogate.parallel.world import World, get_world

world = get_world()
samples = torch.Generator().manual_seed(1)
inputs = torch.randn(20, 8, 5, generator=samples, dtype=torch.float64)
targets = torch.randn(20, 8, 2, generator=samples, dtype=torch.float64)


def network(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)).double()


def train(engine, share, seed):
    module = network(seed)
    optimizer = engine.wrap(torch.optim.Adam(module.parameters(), lr=1e-2), module)
    engine.broadcast(module, optimizer)
    norms = []
    for x, y in zip(inputs, targets):
        optimizer.zero_grad()
        ((module(x[share]) - y[share]) ** 2).mean().backward()
        norms.append(engine.step(optimizer, module.parameters(), max_norm=0.5))
    return torch.cat([p.detach().flatten() for p in module.parameters()]), torch.stack(norms)


# every rank starts from weights of its own: only the broadcast makes them equal
together, norms = train(make_engine("horovod", world), slice(world.rank, None, world.size), seed=world.rank)
alone, norms_alone = train(make_engine("none", World()), slice(None), seed=0)
assert norms.max() > 0.5  # clipping acted
moved = (alone - torch.cat([p.detach().flatten() for p in network(0).parameters()])).abs().max()
differences = (together - alone).abs().max().item(), (norms - norms_alone).abs().max().item()
print("difference", *differences, moved.item(), flush=True)
"""

STATE = """
import torch
from hpcsurrogate.core.errors import ShapeError
from hpcsurrogate.parallel.engine import make_engine
from hpcsurrogate.parallel.world import get_world

world = get_world()
engine = make_engine("horovod", world)
module = torch.nn.BatchNorm1d(3).double()
plain = torch.optim.AdamW(module.parameters(), lr=1.0 + world.rank, weight_decay=0.1)
optimizer = engine.wrap(plain, module)
engine.broadcast(module, optimizer)
assert optimizer.param_groups[0]["lr"] == 1.0 and not optimizer.state  # a broadcast is not a step
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

mean = engine.mean(torch.tensor(1.0 + world.rank * 2.0**-40, dtype=torch.float64))
assert mean.dtype == torch.float64 and mean.item() == 1.0 + 2.0**-41
try:
    engine.mean(torch.tensor(1))
except ShapeError:
    print("refused", flush=True)
"""


def test_two_ranks_train_as_one_with_the_joined_batch(run_mpi):
    """float64 sums in another order differ by 1e-16; 20 Adam steps enlarge that by no more than some powers of ten."""
    rows = re.findall(r"difference (\S+) (\S+) (\S+)", run_mpi(TRAINING, ranks=2))
    assert len(rows) == 2
    for weights, norms, moved in rows:
        assert float(weights) < 1e-10
        assert float(norms) < 1e-10
        assert float(moved) > 0.05  # 20 steps of 1e-2 did something


def test_broadcast_and_mean(run_mpi):
    assert run_mpi(STATE, ranks=2).count("refused") == 2
