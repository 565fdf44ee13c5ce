"""The bytes of a shard: The Well's layout, a checksum on every array, a format that HDF5 1.10 reads."""

import struct

import h5py
import numpy as np
import pytest

from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.data.shards import ShardHeader, ShardWriter

SPACE = ShardHeader(
    "noise", 1, 4, 0.1, (6, 4, 8), (1.5, 1.0, 2.0), "staggered", "box", (0.2, 0.2, 0.2), {"viscosity": 1e-3}, "", 12
)
PLANE = ShardHeader(
    "noise", 1, 4, 0.1, (6, 4), (1.5, 1.0), "staggered", "box", (0.2, 0.2), {"viscosity": 1e-3, "drag": 0.0}, "", 12
)
NAMES = ("velocity", "vorticity", "sgs_stress")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shard.hdf5"


def write(path, header, compression="none"):
    """Zeros, in which the search for object headers below finds nothing by chance."""
    shapes = {name: (FIELDS[name].num_components_in(header.num_dims), *header.grid_shape) for name in NAMES}
    with ShardWriter(path, header, NAMES, compression=compression) as shard:
        for _ in range(header.num_snapshots):
            shard.append({name: np.zeros(shape) for name, shape in shapes.items()})


@pytest.mark.parametrize("header", [PLANE, SPACE], ids=["2-D", "3-D"])
def test_the_file_is_in_the_layout_of_the_well(path, header):
    write(path, header)
    num_dims, axes = header.num_dims, "xyz"[: header.num_dims]
    with h5py.File(path) as file:
        assert file.attrs["dataset_name"] == "noise" and file.attrs["grid_type"] == "cartesian"
        assert (file.attrs["n_spatial_dims"], file.attrs["n_trajectories"]) == (num_dims, 1)
        assert {name: file.attrs[name] for name in file.attrs["simulation_parameters"]} == header.parameters
        assert list(file["dimensions"].attrs["spatial_dims"]) == list(axes)
        # Coordinates of a staggered layout are those of the cell centres.
        np.testing.assert_allclose(file["dimensions/x"], (np.arange(6) + 0.5) * 0.25, rtol=1e-6)  # float32
        np.testing.assert_allclose(file["dimensions/time"], [1.2, 1.3, 1.4, 1.5], rtol=1e-6)
        assert not file["dimensions/time"].attrs["sample_varying"]
        for axis, boundary in zip(axes, file["boundary_conditions"].values(), strict=True):
            assert boundary.attrs["bc_type"] == "PERIODIC" and list(boundary.attrs["associated_dims"]) == [axis]
            assert boundary["mask"][0] and boundary["mask"][-1] and boundary["mask"][:].sum() == 2
        assert list(file["scalars"].attrs["field_names"]) == []
        assert [list(file[f"t{rank}_fields"].attrs["field_names"]) for rank in range(3)] == [
            ["vorticity"], ["velocity"], ["sgs_stress"]
        ]  # fmt: skip
        stress = file["t2_fields/sgs_stress"].attrs
        assert stress["symmetric"] and not stress["antisymmetric"]
        assert stress["sample_varying"] and stress["time_varying"] and list(stress["dim_varying"]) == [1] * num_dims
        assert stress["units"] == b"m^2/s^2" and b"diagonal at centres" in stress["location"]


def test_every_array_has_a_checksum(path):
    write(path, PLANE)
    arrays = []
    with h5py.File(path) as file:
        file.visititems(lambda _, member: arrays.append(member) if isinstance(member, h5py.Dataset) else None)
        assert len(arrays) == len(NAMES) + 3 + 2  # time, x, y; two masks
        assert all(array.fletcher32 for array in arrays)


# Newest versions of what an object's header holds that HDF5 1.10 knows, by type of message (HDF5 file format, IV.A.2).
MESSAGES_OF_1_10 = {
    0x01: 2,  # data space
    0x02: 0,  # link info
    0x03: 3,  # data type, in the upper half of the byte
    0x05: 3,  # fill value
    0x06: 1,  # link
    0x08: 4,  # data layout
    0x0A: 0,  # group info
    0x0B: 2,  # filter pipeline
    0x0C: 3,  # attribute
    0x15: 0,  # attribute info
}
NIL, CONTINUATION = 0x00, 0x10


def messages(content, start, stop, has_order):
    """Yield type and version of each message of an object's header."""
    while start + 4 <= stop:
        kind, size = content[start], struct.unpack_from("<H", content, start + 1)[0]
        start += 6 if has_order else 4
        if kind == CONTINUATION:
            offset, length = struct.unpack_from("<QQ", content, start)
            assert content[offset : offset + 4] == b"OCHK"
            yield from messages(content, offset + 4, offset + length - 4, has_order)
        elif kind != NIL:
            yield kind, content[start] >> 4 if kind == 0x03 else content[start]
        start += size


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd", "blosc"])
def test_nothing_in_the_file_needs_a_newer_library_than_1_10(path, codec):
    write(path, SPACE, codec)
    content, found, start = path.read_bytes(), [], 0
    assert content[8] == 3, "superblock version 3: checksummed metadata, readable by HDF5 1.10"
    while (start := content.find(b"OHDR\2", start)) >= 0:
        flags = content[start + 5]
        first = start + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(content[first : first + width], "little")
        found += messages(content, first + width, first + width + size, flags & 4)
        start += 1
    assert {kind for kind, _ in found} == set(MESSAGES_OF_1_10)
    assert all(version <= MESSAGES_OF_1_10[kind] for kind, version in found)
