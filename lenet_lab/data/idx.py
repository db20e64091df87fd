"""IDX, MNIST's file format: read with every claim of the header checked, and written."""

import gzip
import hashlib
import stat
import struct
import zlib
from pathlib import Path

import numpy as np

from lenet_lab.paths import LabError

IMAGES_MAGIC = 2051  # uint8, three dimensions: count, rows, columns
LABELS_MAGIC = 2049  # uint8, one dimension: count
MAX_CONTENT_BYTES = 100_000_000  # twice MNIST's largest file, unpacked; a header that promises more is refused
MAX_DEFLATE_RATIO = 1032  # deflate can't shrink bytes further than this

ADVICE = "delete it to have it fetched again"


class DataError(LabError):
    """A data file or folder is not what it should be; the message names it and says what was expected."""


def read_images(path: str | Path) -> np.ndarray:
    """Read a gzipped IDX image file.

    Parameters
    ----------
    path : str or pathlib.Path
        The file, such as ``MNIST_data/train-images-idx3-ubyte.gz``.

    Returns
    -------
    numpy.ndarray
        The images, uint8 [count, rows, columns, 1]; 0 is background, 255 is ink.

    Raises
    ------
    DataError
        If the file is unreadable, not gzip, damaged, of another kind, or
        shorter or longer than its header says.
    """
    (count, rows, columns), pixels = _read(path, IMAGES_MAGIC, "image")
    return pixels.reshape(count, rows, columns, 1)


def read_labels(path: str | Path) -> np.ndarray:
    """Read a gzipped IDX label file.

    Parameters
    ----------
    path : str or pathlib.Path
        The file, such as ``MNIST_data/train-labels-idx1-ubyte.gz``.

    Returns
    -------
    numpy.ndarray
        The classes 0 to 9, uint8 [count].

    Raises
    ------
    DataError
        As for `read_images`; also if a label is above 9.
    """
    (_,), labels = _read(path, LABELS_MAGIC, "label")
    if labels.size and labels.max() > 9:
        raise DataError(f"{path}: label {labels.max()} found, expected labels from 0 to 9; {ADVICE}")
    return labels


def write(path: str | Path, array: np.ndarray) -> None:
    """Write images or labels as a gzipped IDX file.

    The same array gives the same bytes, since the gzip header carries no time.

    Parameters
    ----------
    path : str or pathlib.Path
        The file to write.
    array : numpy.ndarray
        Labels, uint8 [count], or images, uint8 [count, rows, columns, 1].

    Raises
    ------
    OSError
        If the file can't be written.
    """
    with open(path, "wb") as file:
        # Level 1 is twice as fast as the default, and the files are only a cache.
        with gzip.GzipFile(fileobj=file, mode="wb", filename="", compresslevel=1, mtime=0) as stream:
            stream.write(_header(array))
            stream.write(np.ascontiguousarray(array).data)


def content_sha256(array: np.ndarray) -> str:
    """Return the SHA-256 of the unpacked IDX file that holds an array.

    Parameters
    ----------
    array : numpy.ndarray
        As for `write`.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(_header(array))
    digest.update(np.ascontiguousarray(array).data)
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
            raise DataError(f"{path}: can't be read (not a regular file); expected a gzipped IDX file")
        with gzip.open(path, "rb") as stream:
            (magic,) = struct.unpack(">I", _read_exactly(stream, 4, path))
            if magic != expected_magic:
                # TensorFlow 1.15's words, which programs may look for.
                raise DataError(f"Invalid magic number {magic} in MNIST {kind} file: {path}")
            shape = struct.unpack(f">{dimensions}I", _read_exactly(stream, 4 * dimensions, path))
            size = _promised_size(shape, status.st_size, path)
            content = _read_exactly(stream, size, path)
            if stream.read(1):
                raise DataError(f"{path}: more than the {size} bytes that its header promises; {ADVICE}")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: truncated or corrupt gzip file ({error}); {ADVICE}") from error
    except OSError as error:
        raise DataError(
            f"{path}: can't be read ({error.strerror or error}); expected a gzipped IDX file that you may read"
        ) from error
    return shape, np.frombuffer(content, dtype=np.uint8)


def _promised_size(shape: tuple[int, ...], compressed_size: int, path: str | Path) -> int:
    size = 1
    for length in shape:
        size *= length
    if size > min(MAX_CONTENT_BYTES, MAX_DEFLATE_RATIO * compressed_size):
        raise DataError(
            f"{path}: its header promises {' x '.join(map(str, shape))} bytes, "
            f"more than a file of {compressed_size} bytes can hold or than the {MAX_CONTENT_BYTES:,} allowed; {ADVICE}"
        )
    return size


def _read_exactly(stream: gzip.GzipFile, size: int, path: str | Path) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise DataError(f"{path}: {len(content)} bytes where {size} were expected, so the file is truncated; {ADVICE}")
    return content
