"""Codecs and shuffle give what HDF5 gives, and damaged or dishonest bytes are refused before they do harm."""

import struct
import sys
import zlib

import numcodecs
import numpy as np
import pytest

from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.data import codecs
from hpcsurrogate.data.codecs import BloscUnshuffle, ChunkDecoder, NumpyUnshuffle, make_decompressor

SIZE = 40_000
SMOOTH = np.sin(np.arange(SIZE // 4)).astype(np.float32).round(2).view(np.uint8)
ENCODERS = {
    "gzip": zlib.compress,
    "zstd": numcodecs.Zstd().encode,
    "blosc": numcodecs.Blosc("lz4").encode,
}
CODECS = sorted(ENCODERS)


def decompressed(codec, stored, size=SIZE):
    out = np.zeros(size, dtype=np.uint8)
    make_decompressor(codec)(memoryview(stored), out)
    return out


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [4, 200, SIZE])
def test_every_codec_is_undone(codec, size):
    np.testing.assert_array_equal(decompressed(codec, ENCODERS[codec](SMOOTH[:size].tobytes()), size), SMOOTH[:size])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [SIZE - 4, SIZE + 4])
def test_another_number_of_bytes_is_refused(codec, size):
    with pytest.raises(DataError, match=f"does not decompress to {size} bytes"):
        decompressed(codec, ENCODERS[codec](SMOOTH.tobytes()), size)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("keep", [0, 1, 3, 5, 15, 100, -1])
def test_bytes_that_end_early_are_refused(codec, keep):
    with pytest.raises(DataError, match="decompress"):
        decompressed(codec, ENCODERS[codec](SMOOTH.tobytes())[:keep])


@pytest.mark.parametrize("codec", CODECS)
def test_more_bytes_behind_are_refused(codec):
    with pytest.raises(DataError, match="decompress"):
        decompressed(codec, ENCODERS[codec](SMOOTH.tobytes()) + b"more")


@pytest.mark.parametrize("codec", CODECS)
def test_damage_is_refused_or_changes_nothing(codec):
    """Without the checksum a codec may not notice: but nothing else than DataError may come of it."""
    stored = np.frombuffer(ENCODERS[codec](SMOOTH.tobytes()), dtype=np.uint8)
    generator, refused = np.random.default_rng(0), 0
    for _ in range(300):
        damaged = stored.copy()
        damaged[generator.integers(0, min(64, len(stored)))] ^= 1 << generator.integers(8)
        try:
            decompressed(codec, damaged.tobytes())
        except DataError:
            refused += 1
    assert refused > 100  # headers are there; the rest of these bytes is content


def test_a_bomb_does_not_go_off():
    """100 MB that are a few hundred bytes of zstd, and a hundred thousand of gzip: no more than asked for is made."""
    for codec in ("gzip", "zstd"):
        with pytest.raises(DataError, match="does not decompress to 1000 bytes"):
            decompressed(codec, ENCODERS[codec](bytes(10**8)), 1000)


def test_a_size_that_zstd_declares_is_read_as_the_format_says():
    """All widths of the size, with and without the window byte and the dictionary's number."""
    magic = b"\x28\xb5\x2f\xfd"
    for descriptor, skipped, width, size in [
        (0x20, 0, "<B", 200),
        (0x60, 0, "<H", 700),
        (0x40, 1, "<H", 700),
        (0x80, 1, "<I", 10**6),
        (0xC2, 3, "<Q", 10**12),
    ]:
        content = struct.pack(width, size - 256 if width == "<H" else size)
        assert codecs._zstd_size(memoryview(magic + bytes([descriptor]) + bytes(skipped) + content)) == size
    assert codecs._zstd_size(memoryview(magic + bytes(10))) is None


@pytest.mark.parametrize("unshuffle", [BloscUnshuffle, NumpyUnshuffle])
@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize("num_values", [1, 3, 1000, 200_000])
def test_both_ways_to_unshuffle_are_that_of_hdf5(unshuffle, itemsize, num_values):
    values = np.random.default_rng(0).integers(0, 256, itemsize * num_values, dtype=np.uint8)
    undo = unshuffle(itemsize, len(values))
    undo.shuffled[:] = values.reshape(-1, itemsize).T.ravel()  # the definition of HDF5's filter
    out = np.zeros_like(values)
    undo(out)
    np.testing.assert_array_equal(out, values)


def test_gzip_needs_no_numcodecs_and_the_others_say_what_they_need(monkeypatch):
    for name in ("numcodecs", "numcodecs.blosc", "numcodecs.zstd"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    shuffled = SMOOTH.reshape(-1, 4).T.tobytes()
    out = np.zeros(SIZE, dtype=np.uint8)
    ChunkDecoder("gzip", 4, SIZE).decode(memoryview(zlib.compress(shuffled)), True, out)
    np.testing.assert_array_equal(out, SMOOTH)
    for codec in ("zstd", "blosc"):
        with pytest.raises(ConfigError, match=rf"{codec} needs numcodecs.*hpcsurrogate\[compression\]"):
            ChunkDecoder(codec, 4, SIZE)


def test_a_chunk_that_the_codec_passed_by_is_taken_as_it_is_and_unshuffled():
    out = np.zeros(SIZE, dtype=np.uint8)
    ChunkDecoder("gzip", 4, SIZE).decode(memoryview(SMOOTH.reshape(-1, 4).T.tobytes()), False, out)
    np.testing.assert_array_equal(out, SMOOTH)
    with pytest.raises(DataError, match=f"does not hold {SIZE} bytes"):
        ChunkDecoder("none", 1, SIZE).decode(memoryview(SMOOTH[:-1]), False, out)
