"""Progress: what is kept of an earlier attempt, and what is not."""

import json

import numpy as np
import pytest

from hpcsurrogate.data.catalogue import shard_name
from hpcsurrogate.data.progress import Progress, blocks, unit_digest
from hpcsurrogate.data.shards import ShardHeader, ShardWriter
from hpcsurrogate.data.statistics import Moments
from hpcsurrogate.parallel.world import World

VELOCITY = np.random.default_rng(0).standard_normal((3, 2, 6, 4))
GROUPS = [{shard_name(0, 0): "first", shard_name(0, 2): "second"}, {shard_name(1, 0): "third"}]
NAMES = frozenset(name for group in GROUPS for name in group)


def write_shard(directory, realisation, first):
    header = ShardHeader("noise", realisation, 2, 0.1, (6, 4), (1.5, 1.0), first_snapshot=first)
    path = directory / shard_name(realisation, first)
    with ShardWriter(path, header, ("velocity",)) as shard:
        for velocity in VELOCITY[:2]:
            shard.append({"velocity": velocity})
    return path


@pytest.fixture
def finished(tmp_path):
    """A directory whose three shards an earlier attempt has finished."""
    progress = Progress(tmp_path, World())
    assert progress.resume(GROUPS) == frozenset()
    for (name, digest), (realisation, first) in zip(
        [item for group in GROUPS for item in group.items()], [(0, 0), (0, 2), (1, 0)], strict=True
    ):
        assert write_shard(tmp_path, realisation, first).name == name
        progress.add(tmp_path / name, digest, {"velocity": Moments.of(VELOCITY[realisation])})
    return tmp_path


def kept(directory, groups=GROUPS):
    return Progress(directory, World()).resume(groups)


def files(directory):
    return {path.name for path in directory.glob("*.hdf5")}, {path.stem for path in directory.glob(".progress/*")}


def test_what_an_earlier_attempt_finished_is_kept_with_all_that_was_known_of_it(finished):
    progress = Progress(finished, World())
    assert progress.resume(GROUPS) == NAMES
    shards = progress.gather()
    assert [(shard.record.realisation, shard.record.shard.first_snapshot) for shard in shards] == [
        (0, 0),
        (0, 2),
        (1, 0),
    ]
    for shard in shards:
        expected = Moments.of(VELOCITY[shard.record.realisation])
        assert shard.moments["velocity"].mean.tobytes() == expected.mean.tobytes()


def test_everything_else_in_the_directory_goes(finished):
    for name in ("catalogue.json", "statistics.json", shard_name(7, 0), f".partial-{shard_name(1, 2)}"):
        (finished / name).write_text("left over")
    (finished / ".progress" / f"{shard_name(7, 0)}.json").write_text("{}")
    (finished / "notes.txt").write_text("the user's own")
    assert kept(finished) == NAMES
    assert files(finished) == (NAMES, NAMES)
    assert {path.name for path in finished.iterdir()} == {".progress", "notes.txt", *NAMES}


def test_another_digest_is_another_shard(finished):
    assert kept(finished, [GROUPS[0], {shard_name(1, 0): "changed"}]) == frozenset(GROUPS[0])
    assert files(finished) == (set(GROUPS[0]), set(GROUPS[0]))


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda shard, record: shard.unlink(),
        lambda shard, record: shard.write_bytes(shard.read_bytes()[:-1]),
        lambda shard, record: flip_bit(shard),
        lambda shard, record: record.unlink(),
        lambda shard, record: record.write_text(record.read_text()[:-9]),
        lambda shard, record: record.write_text("[]"),
        lambda shard, record: flip_bit(record),
        lambda shard, record: record.write_text(json.dumps(json.loads(record.read_text()) | {"moments": {}})),
    ],
)
def test_a_shard_that_is_not_as_recorded_is_made_again(finished, damage):
    name = shard_name(1, 0)
    damage(finished / name, finished / ".progress" / f"{name}.json")
    assert kept(finished) == frozenset(GROUPS[0])
    assert files(finished) == (set(GROUPS[0]), set(GROUPS[0]))


def test_a_group_is_kept_whole_or_not_at_all(finished):
    (finished / shard_name(0, 2)).unlink()
    assert kept(finished) == frozenset(GROUPS[1])


def test_blocks_cover_every_snapshot_once():
    assert blocks(7, 3) == [range(0, 3), range(3, 5), range(5, 7)]  # not 3, 3, 1
    assert blocks(6, 3) == [range(0, 3), range(3, 6)] and blocks(2, 3) == [range(0, 2)]


def test_the_digest_changes_with_the_program(monkeypatch):
    before = unit_digest(["content"])
    assert before != unit_digest(["other content"])
    monkeypatch.setattr("hpcsurrogate.__version__", "another")
    assert before != unit_digest(["content"])
