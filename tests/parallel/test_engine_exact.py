"""Exact averages: the same bits on 1, 2, 4 and 8 ranks, by Horovod and by gloo."""

import json

import pytest

LIMIT = 120  # seconds for a launch that takes about 8 on two idle cores

TRAINING = """
import hashlib, json, sys
import torch
from hpcsurrogate.parallel import gradients
from hpcsurrogate.parallel.engine import clip_gradients, make_engine
from hpcsurrogate.parallel.world import get_world

SHARDS = 8
gradients.BUCKET_SIZE = {"cpu": 1000}  # bytes: several buckets
world = get_world()
samples = torch.Generator().manual_seed(1)
inputs = torch.randn(4, SHARDS, 3, 7, generator=samples)
own = range(world.rank, SHARDS, world.size)


def train(engine, exact):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(7, 33), torch.nn.Tanh(), torch.nn.Linear(33, 5))
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    averager = gradients.Gradients(engine, module.parameters(), len(own), exact=exact)
    digest = hashlib.sha256()
    for batch in inputs:
        averager.begin()
        for shard in own:
            averager.backward(module(batch[shard].clone()).square().mean())
        averager.finish()
        digest.update(clip_gradients(module.parameters(), 0.1).numpy().tobytes())
        optimizer.step()
    for parameter in module.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest(), module, averager


report = {}
for kind in ("horovod", "torch"):
    engine = make_engine(kind, world)
    report[kind], module, averager = train(engine, exact=True)
    report[f"{kind}, not exact"], _, _ = train(engine, exact=False)
    # one part of one rank has a gradient that is not finite: no rank may see a number in its place
    averager.begin()
    for shard in own:
        value = float("nan") if shard == 5 else 1.0
        averager.backward((module(inputs[0, shard]) * torch.tensor([value, 1, 1, 1, 1])).sum())
    averager.finish()
    first, last = module[0].weight.grad, module[2].bias.grad
    assert not last[0].isfinite() and not first.isfinite().any()
    engine.close()
print(json.dumps(report) + "\\n", end="", flush=True)
"""


@pytest.fixture
def digests(run_mpi):
    """Of all ranks of all launches: SHA-256 of weights and norms after four steps."""
    reports = []
    for ranks in (1, 2, 4, 8):
        reports += [json.loads(line) for line in run_mpi(TRAINING, ranks, LIMIT).splitlines() if line]
    assert len(reports) == 15
    return reports


def test_weights_and_norms_are_equal_bit_for_bit(digests):
    """Without `exact` they are not: else this would show nothing."""
    assert len({report[kind] for report in digests for kind in ("horovod", "torch")}) == 1
    assert len({report["torch, not exact"] for report in digests}) > 1
