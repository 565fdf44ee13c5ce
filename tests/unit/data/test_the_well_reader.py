"""The Well's own reader iterates our shards: the same numbers, with its names, times, points and boundaries."""

import numpy as np
import pytest
import torch
from the_well.data import WellDataset

from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.data.catalogue import shard_name
from hpcsurrogate.data.shards import ShardHeader, ShardWriter

PLANE = {"grid_shape": (6, 4), "domain": (1.5, 2.0), "layout": "staggered"}
SOLID = {"grid_shape": (4, 6, 8), "domain": (1.0, 3.0, 2.0), "layout": "collocated"}
BLOCKS = ((0, 0, 3), (0, 3, 2), (1, 0, 4))  # realisation, first snapshot, snapshots: one file each


@pytest.fixture
def write_blocks(tmp_path):
    """write_blocks(geometry, names, compression) -> arrays[block][name] of (time, component, nx, ny[, nz])."""
    generator = np.random.default_rng(0)

    def write(geometry, names, compression="none"):
        written = []
        for realisation, first, count in BLOCKS:
            header = ShardHeader(
                "noise", realisation, count, 0.5, first_snapshot=first, parameters={"viscosity": 1e-3}, **geometry
            )
            lengths = {name: FIELDS[name].num_components_in(len(header.grid_shape)) for name in names}
            arrays = {
                name: generator.standard_normal((count, length, *header.grid_shape)).astype(np.float32)
                for name, length in lengths.items()
            }
            path = tmp_path / shard_name(realisation, first)
            with ShardWriter(path, header, names, compression=compression) as shard:
                for index in range(count):
                    shard.append({name: arrays[name][index] for name in names})
            written.append(arrays)
        return written

    return write


def samples(written, names):
    """Every pair of snapshots that follow each other in a block, fields of lower rank first, components last."""
    for arrays in written:
        stacked = np.concatenate([full(arrays[name]) if name == "sgs_stress" else arrays[name] for name in names], 1)
        for index in range(len(stacked) - 1):
            yield np.moveaxis(stacked[index : index + 2], 1, -1)


def full(stress):
    """xx, xy, yy to the four components xx, xy, yx, yy that the reader lists."""
    return stress[:, [0, 1, 1, 2]]


def test_prepared_planes(write_blocks, tmp_path):
    names = ("velocity", "commutator", "sgs_stress")
    written = write_blocks(PLANE, names)
    dataset = WellDataset(path=str(tmp_path))
    metadata = dataset.metadata
    assert (metadata.dataset_name, metadata.n_spatial_dims, metadata.spatial_resolution) == ("noise", 2, (6, 4))
    assert (metadata.n_files, metadata.n_steps_per_trajectory) == (3, [3, 2, 4])
    assert metadata.boundary_condition_types == ["PERIODIC"]
    order = [name.split("_x")[0] for name in metadata.field_names[1][::2]] + ["sgs_stress"]
    assert metadata.field_names[2] == ["sgs_stress_xx", "sgs_stress_xy", "sgs_stress_yx", "sgs_stress_yy"]
    expected = list(samples(written, order))
    assert len(dataset) == len(expected) == 2 + 1 + 3
    for index, pair in enumerate(expected):
        sample = dataset[index]
        np.testing.assert_array_equal(sample["input_fields"], pair[:1])
        np.testing.assert_array_equal(sample["output_fields"], pair[1:])
        assert sample["output_time_grid"] - sample["input_time_grid"] == 0.5
        assert torch.equal(sample["boundary_conditions"], torch.full((2, 2), 2.0))  # its code for periodic
    # Centres of the cells, of 0.25 m x 0.5 m.
    np.testing.assert_array_equal(dataset[0]["space_grid"][2, 3], [2.5 * 0.25, 3.5 * 0.5])


def test_absolute_times_of_a_later_block(write_blocks, tmp_path):
    write_blocks(PLANE, ("velocity",))
    dataset = WellDataset(path=str(tmp_path), normalize_time_grid=False)
    assert [float(dataset[index]["input_time_grid"]) for index in range(6)] == [0.0, 0.5, 1.5, 0.0, 0.5, 1.0]


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_recorded_boxes(write_blocks, tmp_path, compression):
    """Through torch's own loader, in batches."""
    written = write_blocks(SOLID, ("velocity",), compression)
    dataset = WellDataset(path=str(tmp_path), n_steps_input=1, n_steps_output=1)
    assert dataset.metadata.field_names[1] == ["velocity_x", "velocity_y", "velocity_z"]
    batches = torch.utils.data.DataLoader(dataset, batch_size=3)
    found = torch.cat([torch.cat((batch["input_fields"], batch["output_fields"]), dim=1) for batch in batches])
    np.testing.assert_array_equal(found, np.stack(list(samples(written, ("velocity",)))))
    np.testing.assert_array_equal(dataset[0]["space_grid"][3, 5, 7], [0.75, 2.5, 1.75])
