"""The Fletcher-32 checksum that HDF5 keeps behind every chunk, of many chunks at once.

With the bytes as big-endian 16-bit words w_0 ... w_{n-1}, the checksum is `second << 16 | first` of the sums

    first = sum_i w_i,    second = sum_i (n - i) w_i    modulo 65535, where 65535 stands for 0 unless all words are 0.

Words are laid out as rows and columns, i = row * COLUMNS + column, so that the sums of all rows and of all columns are
enough. These are products with vectors of ones, in float32: exact, because no more than 256 words below 2^16 are added.
The words are read as little-endian ones: modulo 65535 that is a factor of 256, taken out of the sums.
"""

import numpy as np

ROWS, COLUMNS = 32, 256  # of a piece: 16 KiB, small enough that a BLAS stays in the calling thread
PIECES_AT_ONCE = 16  # 512 KiB of float32, for a second-level cache
MODULUS = 65535

_ONES_OF_ROW = np.ones(COLUMNS, dtype=np.float32)
_ONES_OF_COLUMN = np.ones(ROWS, dtype=np.float32)


def fletcher32(chunks: np.ndarray) -> np.ndarray:
    """Return the checksum of every chunk.

    Parameters
    ----------
    chunks : ndarray, shape (n, size), uint8, C-contiguous

    Returns
    -------
    ndarray, shape (n,), int64    from 0 to 2^32 - 1

    Notes
    -----
    Equal to HDF5's for any content and size, odd ones too (tests/unit/data/test_fletcher32.py).
    """
    num_chunks, size = chunks.shape
    num_words = -(-size // 2)
    pieces = _as_pieces(chunks)
    row_sums, column_sums = _sum_pieces(pieces.reshape(-1, ROWS, COLUMNS))
    num_pieces = pieces.shape[1] // (ROWS * COLUMNS)
    rows = row_sums.reshape(num_chunks, num_pieces * ROWS).astype(np.int64)
    columns = column_sums.reshape(num_chunks, num_pieces, COLUMNS).sum(axis=1, dtype=np.int64)
    first = rows.sum(axis=1)
    places = rows @ (np.arange(num_pieces * ROWS) * COLUMNS % MODULUS) + columns @ np.arange(COLUMNS)
    second = num_words % MODULUS * (first % MODULUS) - places
    checksums = (second * 256 % MODULUS) << 16 | (first * 256 % MODULUS)
    return _with_all_ones_for_zero(checksums, is_zero=first == 0)


def _as_pieces(chunks: np.ndarray) -> np.ndarray:
    """16-bit words of all chunks, each filled up with zeros to whole pieces; a view if there is nothing to fill."""
    num_chunks, size = chunks.shape
    padding = -size % (2 * ROWS * COLUMNS)
    if padding or size == 0:
        padded = np.zeros((num_chunks, size + (padding or 2 * ROWS * COLUMNS)), dtype=np.uint8)
        padded[:, :size] = chunks
        chunks = padded
    return chunks.view("<u2")


def _sum_pieces(pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the columns of each row, (piece, ROWS), and over the rows of each column, (piece, COLUMNS)."""
    num_pieces = len(pieces)
    row_sums = np.empty((num_pieces, ROWS), dtype=np.float32)
    column_sums = np.empty((num_pieces, COLUMNS), dtype=np.float32)
    scratch = np.empty((min(num_pieces, PIECES_AT_ONCE), ROWS, COLUMNS), dtype=np.float32)
    for start in range(0, num_pieces, PIECES_AT_ONCE):
        here = slice(start, start + PIECES_AT_ONCE)
        words = scratch[: len(pieces[here])]
        np.copyto(words, pieces[here])
        np.matmul(words, _ONES_OF_ROW, out=row_sums[here])
        np.matmul(_ONES_OF_COLUMN, words, out=column_sums[here])
    return row_sums, column_sums


def _with_all_ones_for_zero(checksums: np.ndarray, is_zero: np.ndarray) -> np.ndarray:
    """A half that is 0 modulo 65535 is written as 65535, unless every word is 0."""
    checksums += np.where(checksums & 0xFFFF == 0, MODULUS, 0)
    checksums += np.where(checksums >> 16 == 0, MODULUS << 16, 0)
    checksums[is_zero] = 0
    return checksums
