"""The table of a data directory: every number from the catalogue, and what is missing named."""

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.shards import ShardHeader, ShardWriter
from hpcsurrogate.data.summary import data_directories, describe_directory

BLOCKS = ((0, 0, 3), (0, 3, 2), (1, 0, 4))  # realisation, first snapshot, snapshots


@pytest.fixture
def directory(tmp_path):
    """Velocity and stress of two realisations, the first in two shards; the second on another grid."""
    folder, records = tmp_path / "prepared", []
    for realisation, first, count in BLOCKS:
        header = ShardHeader(
            "noise", realisation, count, 0.1, (6, 4 + 2 * realisation), (1.5, 1.0), "staggered", "box", (0.25, 0.5),
            {"viscosity": 1e-3, "drag": 0.0}, first_snapshot=first,
        )  # fmt: skip
        path = folder / shard_name(realisation, first)
        with ShardWriter(path, header, ("velocity", "sgs_stress")) as shard:
            for _ in range(count):
                ones = np.ones((3, *header.grid_shape), dtype=np.float32)
                shard.append({"velocity": ones[:2], "sgs_stress": ones})
        records.append(catalogue_shard(path))
    Catalogue.from_shards(folder, records).write()
    return folder


def test_the_table_says_what_the_shards_hold(directory):
    text = describe_directory(directory)
    sizes = [(directory / shard_name(*block[:2])).stat().st_size / 1e6 for block in BLOCKS]
    head, *lines = text.splitlines()
    assert head == f"{directory}: 2 realisation(s), 9 snapshots in 3 shard(s), {sum(sizes):.1f} MB"
    lines = [" ".join(line.split()) for line in lines]
    assert "grid 6 x 4 points, staggered, box 1.5 x 1 m, float32" in lines
    assert "grid 6 x 6 points, staggered, box 1.5 x 1 m, float32" in lines
    assert lines.count("filter box, width 0.25 x 0.5 m") == 2
    assert lines.count("parameters viscosity = 0.001, drag = 0") == 2
    assert lines.count("fields velocity u [m/s]: x, y") == 2
    assert lines.count("sgs_stress tau [m^2/s^2]: xx, xy, yy") == 2
    assert f"0 5 0.1 0.4 2 {sizes[0] + sizes[1]:.1f}" in lines
    assert f"1 4 0.1 0.3 1 {sizes[2]:.1f}" in lines


def test_one_realisation_alone(directory):
    text = describe_directory(directory, 1)
    assert text.startswith(f"{directory}: 1 realisation(s), 4 snapshots in 1 shard(s)") and "6 x 4 points" not in text
    with pytest.raises(DataError, match="no realisation 5"):
        describe_directory(directory, 5)


def test_the_directories_of_a_run_stand_in_the_order_of_the_data(tmp_path):
    expected = [tmp_path / name for name in ("raw", "prepared", "prepared/filter-2", "prepared/filter-10")]
    for folder in reversed(expected):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "catalogue.json").write_text("{}")
    (tmp_path / "prepared" / "filter-3").mkdir()
    assert data_directories(tmp_path) == expected
    assert data_directories(tmp_path / "prepared") == [tmp_path / "prepared"]
    with pytest.raises(DataError, match="holds no catalogue.json, nor does raw/ or prepared/"):
        data_directories(tmp_path / "prepared" / "filter-3")
