"""IDX, the file format of MNIST: read with every claim of the header checked, and written."""

import gzip
import hashlib
import stat
import struct
import zlib
from pathlib import Path

import numpy as np

IMAGES_MAGIC = 2051  # uint8, three dimensions: count, rows, columns
LABELS_MAGIC = 2049  # uint8, one dimension: count
MAX_BYTES = 100_000_000  # twice MNIST's largest file; a header that promises more is refused
MAX_DEFLATE_RATIO = 1032  # deflate can't shrink bytes further than this


class DataError(ValueError):
    """A data file is not what it should be; the message names the file and what was expected."""


def read_images(path: str | Path) -> np.ndarray:
    """Read a gzipped IDX image file.

    Parameters
    ----------
    path : str or path
        Such as ``MNIST_data/train-images-idx3-ubyte.gz``.

    Returns
    -------
    uint8 array [count, rows, columns, 1]
        0 is background, 255 ink.

    Raises
    ------
    DataError
        If the file is unreadable, not gzip, damaged, of another kind, or
        shorter or longer than its header says.
    """
    (count, rows, columns), pixels = _read(path, IMAGES_MAGIC, "image")
    return pixels.reshape(count, rows, columns, 1)


def read_labels(path: str | Path) -> np.ndarray:
    """Read a gzipped IDX label file: a uint8 array [count] of classes 0 to 9.

    Raises
    ------
    DataError
        As `read_images`, and if a label is outside 0 to 9.
    """
    (_,), labels = _read(path, LABELS_MAGIC, "label")
    if labels.size and labels.max() > 9:
        raise DataError(f"{path}: label {labels.max()} found, expected labels from 0 to 9")
    return labels


def write(path: str | Path, array: np.ndarray) -> None:
    """Write uint8 labels [count] or images [count, rows, columns, 1] as a gzipped IDX file.

    The same array gives the same bytes: the gzip header carries no time.
    """
    with open(path, "wb") as file:
        # Level 1: twice as fast as the default, and the files are only cached.
        with gzip.GzipFile(fileobj=file, mode="wb", filename="", compresslevel=1, mtime=0) as stream:
            stream.write(_header(array))
            stream.write(np.ascontiguousarray(array))


def content_sha256(array: np.ndarray) -> str:
    """The SHA-256, in hexadecimal digits, of the IDX file (not gzipped) that holds an array."""
    digest = hashlib.sha256(_header(array))
    digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _header(array: np.ndarray) -> bytes:
    if array.ndim == 1:
        return struct.pack(">2I", LABELS_MAGIC, *array.shape)
    return struct.pack(">4I", IMAGES_MAGIC, *array.shape[:3])


def _read(path: str | Path, expected_magic: int, kind: str) -> tuple[tuple[int, ...], np.ndarray]:
    dimensions = 3 if expected_magic == IMAGES_MAGIC else 1
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would keep the reader waiting
            raise DataError(f"{path}: can't be read (not a regular file)")
        with gzip.open(path, "rb") as stream:
            (magic,) = struct.unpack(">I", _exactly(stream, 4, path))
            if magic != expected_magic:
                # TensorFlow 1.15's very words, which programs may look for.
                raise DataError(f"Invalid magic number {magic} in MNIST {kind} file: {path}")
            shape = struct.unpack(f">{dimensions}I", _exactly(stream, 4 * dimensions, path))
            size = _promised_size(shape, status.st_size, path)
            content = _exactly(stream, size, path)
            if stream.read(1):
                raise DataError(f"{path}: more than the {size} bytes that its header promises")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: truncated or corrupt gzip file ({error}); delete it to get it afresh"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error})") from error
    return shape, np.frombuffer(content, dtype=np.uint8)


def _promised_size(shape: tuple[int, ...], compressed_size: int, path: str | Path) -> int:
    size = 1
    for length in shape:
        size *= length
    if size > min(MAX_BYTES, MAX_DEFLATE_RATIO * compressed_size):
        raise DataError(
            f"{path}: its header promises {' x '.join(map(str, shape))} bytes, "
            f"more than a file of {compressed_size} bytes can hold"
        )
    return size


def _exactly(stream: gzip.GzipFile, size: int, path: str | Path) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise DataError(f"{path}: {len(content)} bytes where {size} were expected: file is truncated")
    return content
