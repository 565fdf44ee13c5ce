"""Our Fletcher-32 is HDF5's, for any size and content."""

import h5py
import numpy as np
import pytest

from hpcsurrogate.data.fletcher32 import fletcher32

# Around a word, around a piece of 16 KiB, and more pieces than are in work at once.
SIZES = (1, 2, 3, 7, 512, 16383, 16384, 16385, 81920, 300_001)


def checksum_of_hdf5(content):
    with h5py.File("unused", "w", driver="core", backing_store=False) as file:
        array = file.create_dataset("a", data=content, chunks=content.shape, fletcher32=True)
        _, stored = array.id.read_direct_chunk((0,))
    return int.from_bytes(stored[-4:], "little")


@pytest.mark.parametrize("size", SIZES)
def test_equal_to_hdf5(size):
    random = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    # Sums that are 0, or 0 modulo 65535, have two ways to be written.
    contents = np.stack([random, np.zeros_like(random), np.full_like(random, 255), random // 255])
    assert fletcher32(contents).tolist() == [checksum_of_hdf5(content) for content in contents]


def test_no_checksum_is_that_of_another_chunk():
    chunks = np.random.default_rng(0).integers(0, 256, (50, 1000), dtype=np.uint8)
    one_by_one = [fletcher32(chunk[None])[0] for chunk in chunks]
    assert fletcher32(chunks).tolist() == one_by_one


def test_every_flipped_bit_changes_it():
    content = np.random.default_rng(0).integers(0, 256, 33, dtype=np.uint8)
    flips = np.concatenate([np.eye(33, dtype=np.uint8) << bit for bit in range(8)])
    assert not np.isin(fletcher32(content ^ flips), fletcher32(content[None])).any()


def test_no_chunks_have_no_checksums():
    assert fletcher32(np.empty((0, 8), dtype=np.uint8)).shape == (0,)
