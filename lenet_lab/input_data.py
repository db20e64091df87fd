"""MNIST as TensorFlow 1 served it: `read_data_sets`, `DataSet`, `next_batch`; the stand-in when offline.

A replacement for `tensorflow.examples.tutorials.mnist.input_data`, which left
TensorFlow with version 2.
"""

import collections
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lenet_lab import idx, standin
from lenet_lab.compat import tf
from lenet_lab.download import MIRRORS, SHA256, DownloadError, download
from lenet_lab.idx import DataError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DEFAULT_SOURCE_URL = MIRRORS[0]
# SHA-256 of the four files' content: data is called MNIST if it is MNIST, not if it stands in such a folder.
MNIST_CONTENT_SHA256 = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)


class Datasets(collections.namedtuple("Datasets", ["train", "validation", "test"])):
    """The three parts of a data set, and its name."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """`MNIST`, `stand-in digits`, or where else the data is from."""
        return self.train.name


class DataSet:
    """Images with their labels, served in batches as TensorFlow 1.15's `DataSet` served them.

    A shuffle permutes an index instead of moving the images.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        fake_data: bool = False,
        one_hot: bool = False,
        dtype=tf.float32,
        reshape: bool = True,
        seed: int | None = None,
        name: str = "unnamed data",
    ):
        """
        Parameters
        ----------
        images : uint8 array [count, rows, columns, 1]
        labels : array [count] or one-hot [count, classes]
        fake_data : bool, default False
            Serve constant examples, whatever the images and labels.
        one_hot : bool, default False
            The form of fake labels; real ones come as they are.
        dtype : tf.float32 or tf.uint8, default tf.float32
            Float images are scaled from 0..255 to 0..1.
        reshape : bool, default True
            Flatten the images to [count, rows * columns].
        seed : int, optional
            Seeds NumPy's global generator, which `next_batch` shuffles with, as
            1.15 does; without it, the graph's seed or, failing that, chance.
        name : str
            What the data is, for titles and tables.

        Raises
        ------
        TypeError
            If dtype is neither float32 nor uint8.
        """
        graph_seed, op_seed = tf.get_seed(seed)
        np.random.seed(graph_seed if seed is None else op_seed)
        dtype = tf.as_dtype(dtype).base_dtype
        if dtype not in (tf.uint8, tf.float32):
            raise TypeError(f"Invalid image dtype {dtype!r}, expected uint8 or float32")
        self.name = name
        self._epochs_completed = 0
        self._index_in_epoch = 0
        self._order: np.ndarray | None = None  # the shuffle not yet applied to images and labels
        if fake_data:
            self._num_examples = 10000
            self.one_hot = one_hot
            self._images, self._labels = images, labels
            return
        assert images.shape[0] == labels.shape[0], f"images.shape: {images.shape} labels.shape: {labels.shape}"
        self._num_examples = images.shape[0]
        if reshape:
            assert images.shape[3] == 1
            images = images.reshape(images.shape[0], images.shape[1] * images.shape[2])
        if dtype == tf.float32:
            images = np.multiply(images, np.float32(1 / 255), dtype=np.float32)
        self._images = images
        self._labels = labels

    @property
    def images(self) -> np.ndarray:
        """The images, in the order of the last shuffle."""
        self._apply_order()
        return self._images

    @property
    def labels(self) -> np.ndarray:
        """The labels, in the order of the last shuffle."""
        self._apply_order()
        return self._labels

    @property
    def num_examples(self) -> int:
        return self._num_examples

    @property
    def epochs_completed(self) -> int:
        return self._epochs_completed

    def next_batch(self, batch_size: int, fake_data: bool = False, shuffle: bool = True):
        """The next examples, in the very order of TensorFlow 1.15 for the same seed.

        An epoch's last examples share a batch with the first of the next one.
        With `shuffle`, the set is shuffled before its first batch and whenever
        an epoch ends inside this call.

        Returns
        -------
        images, labels : arrays [batch_size, ...]

        Raises
        ------
        ValueError
            If batch_size is below 1 or above the number of examples.
        """
        if fake_data:
            label = [1] + [0] * 9 if self.one_hot else 0
            return [[1] * 784 for _ in range(batch_size)], [label for _ in range(batch_size)]
        self.check_batch_size(batch_size)
        start = self._index_in_epoch
        if self._epochs_completed == 0 and start == 0 and shuffle:
            self._shuffle()
        if start + batch_size <= self._num_examples:
            self._index_in_epoch = start + batch_size
            return self._take(start, start + batch_size)
        self._epochs_completed += 1
        old_images, old_labels = self._take(start, self._num_examples)
        if shuffle:
            self._shuffle()
        self._index_in_epoch = start + batch_size - self._num_examples
        new_images, new_labels = self._take(0, self._index_in_epoch)
        return np.concatenate((old_images, new_images)), np.concatenate((old_labels, new_labels))

    def epoch(
        self, batch_size: int, rng: np.random.RandomState, at_a_time: int = 1
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """One pass over the set in a new random order, in whole batches, some of them at a time.

        The few examples that fill no batch are left out; they are others in
        every pass. Leaves what `next_batch` will serve as it is.

        Parameters
        ----------
        batch_size : int
            From 1 to `num_examples`.
        rng : numpy.random.RandomState
            What the order is drawn from.
        at_a_time : int, default 1
            How many batches to yield together; the last time it may be fewer.

        Yields
        ------
        images, labels : arrays [at_a_time, batch_size, ...]
            The memory is used again for the next ones.
        """
        self.check_batch_size(batch_size)
        batches = self._num_examples // batch_size
        order = rng.permutation(self._num_examples)[: batches * batch_size].reshape(batches, batch_size)
        images = _aligned_empty((min(at_a_time, batches), batch_size, *self._images.shape[1:]), self._images.dtype)
        for start in range(0, batches, at_a_time):
            group = order[start : start + at_a_time]
            # With mode="raise", NumPy would go through a second array.
            np.take(self._images, group, axis=0, out=images[: len(group)], mode="clip")
            yield images[: len(group)], self._labels[group]

    def check_batch_size(self, batch_size: int) -> None:
        """Raise a ValueError unless a batch of this size can be taken from the set."""
        if not 1 <= batch_size <= self._num_examples:
            raise ValueError(f"batch size is {batch_size}, expected 1 to {self._num_examples}, the size of the set")

    def _shuffle(self) -> None:
        order = np.arange(self._num_examples)
        np.random.shuffle(order)  # the global generator, as in 1.15
        self._order = order if self._order is None else self._order[order]

    def _take(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(start, end) if self._order is None else self._order[start:end]
        return self._images[part], self._labels[part]

    def _apply_order(self) -> None:
        if self._order is not None:
            self._images, self._labels = self._images[self._order], self._labels[self._order]
            self._order = None


def read_data_sets(
    train_dir: str,
    fake_data: bool = False,
    one_hot: bool = False,
    dtype=tf.float32,
    reshape: bool = True,
    validation_size: int = 5000,
    seed: int | None = None,
    source_url: str = DEFAULT_SOURCE_URL,
    fallback: bool = True,
) -> Datasets:
    """Read MNIST: 55,000 training, 5,000 validation and 10,000 test images (lab cell 1).

    The four files are looked for in the folder that the environment variable
    `LENET_LAB_DATA` names, then in `train_dir`. What `train_dir` lacks is
    downloaded into it. Offline, a stand-in takes MNIST's place: real
    handwritten digits, but not MNIST's, in `train_dir/stand-in`; a warning says
    so and every title and table made from it bears its name.

    Parameters
    ----------
    train_dir : str
        The folder of the four .gz files.
    fake_data : bool, default False
        Serve constant examples, for tests of plumbing.
    one_hot : bool, default False
        Labels as float64 rows [10] instead of uint8 classes.
    dtype, reshape, seed
        See `DataSet`.
    validation_size : int, default 5000
        How many of the first training images are set aside.
    source_url : str
        Where to download from, in place of the two public mirrors.
    fallback : bool, default True
        False makes missing data an error instead of using the stand-in.

    Returns
    -------
    Datasets
        `train`, `validation`, `test`, and the data's `name`.

    Raises
    ------
    DataError
        If a file is damaged or not what it should be, or, without `fallback`,
        if the data can't be had.
    ValueError
        If `validation_size` is not between 0 and the number of training images.
    """
    options = dict(dtype=dtype, reshape=reshape, seed=seed)
    if fake_data:
        options.update(fake_data=True, one_hot=one_hot, name="fake data")
        return Datasets(*(DataSet([], [], **options) for _ in range(3)))

    folder = _find_folder(train_dir, source_url or DEFAULT_SOURCE_URL, fallback)
    train_images, train_labels, test_images, test_labels = _read_files(folder)
    name = _name(folder, (train_images, train_labels, test_images, test_labels))
    if not 0 <= validation_size <= len(train_images):
        raise ValueError(
            f"Validation size should be between 0 and {len(train_images)}. Received: {validation_size}."
        )
    if one_hot:
        train_labels, test_labels = dense_to_one_hot(train_labels, 10), dense_to_one_hot(test_labels, 10)
    v = validation_size
    return Datasets(
        train=DataSet(train_images[v:], train_labels[v:], name=name, **options),
        validation=DataSet(train_images[:v], train_labels[:v], name=name, **options),
        test=DataSet(test_images, test_labels, name=name, **options),
    )


def load_mnist(train_dir: str = "MNIST-data") -> Datasets:
    """`read_data_sets` with every other setting at its default."""
    return read_data_sets(train_dir)


def read_mnist(train_dir: str) -> Datasets:
    """MNIST and nothing else, with one-hot labels: for what is committed.

    Raises
    ------
    DataError
        If it can't be had, or other data stands in its place.
    """
    mnist = read_data_sets(train_dir, one_hot=True, fallback=False)
    if mnist.name != "MNIST":
        raise DataError(f"{train_dir} has {mnist.name}, expected MNIST: what is committed is made on MNIST only")
    return mnist


def dense_to_one_hot(labels_dense: np.ndarray, num_classes: int) -> np.ndarray:
    """Classes [count] as float64 rows [count, num_classes] with a single 1."""
    return np.eye(num_classes)[labels_dense.ravel()]


def _aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array on a boundary of 64 bytes, which TensorFlow is fed without a copy."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def _find_folder(train_dir: str, source_url: str, fallback: bool) -> Path:
    """The folder that has the four files, after a download or the making of the stand-in if need be."""
    folder = Path(train_dir)
    named = os.environ.get("LENET_LAB_DATA")
    if named:
        missing = _missing(Path(named))
        if not missing:
            return Path(named)
        lacks = f"LENET_LAB_DATA names {Path(named).absolute()}, which lacks {', '.join(missing)}"
        print(f"*** {lacks}; looking in {folder.absolute()} instead. ***", file=sys.stderr, flush=True)
    missing = _missing(folder)
    if not missing:
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _download(missing, folder, source_url)
        return folder
    except DownloadError as error:
        if not fallback:
            raise DataError(f"MNIST is not in {folder} and {error}") from error
        _announce_standin(error)
        return standin.make(folder / "stand-in")
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{folder}: can't hold the data ({reason}); choose a folder you can write to") from error


def _missing(folder: Path) -> list[str]:
    return [name + ".gz" for name in FILES if not (folder / (name + ".gz")).exists()]


def _download(names: list[str], folder: Path, source_url: str) -> None:
    # A mirror of the user's own may serve other data in MNIST's form: no checksum is known for it.
    official = source_url == DEFAULT_SOURCE_URL
    mirrors = MIRRORS if official else (source_url,)
    for name in names:
        download(name, folder, mirrors, SHA256[name] if official else None)


def _announce_standin(error: DownloadError) -> None:
    message = (
        f"MNIST CAN'T BE REACHED ({error}). Going on with STAND-IN DIGITS, which are not MNIST: "
        "scikit-learn's 1,797 handwritten digits, enlarged and deformed. Accuracies differ from MNIST's. "
        "To use MNIST, put its four .gz files into a folder and set LENET_LAB_DATA to it."
    )
    # Not `warnings.warn`: the lab's own first cell switches warnings off.
    print(f"\n*** {message} ***\n", file=sys.stderr, flush=True)


def _read_files(folder: Path) -> list[np.ndarray]:
    arrays = []
    for name in FILES:
        path = folder / (name + ".gz")
        print("Extracting", path)
        arrays.append(idx.read_images(path) if "images" in name else idx.read_labels(path))
    for images_name, labels_name, images, labels in zip(FILES[::2], FILES[1::2], arrays[::2], arrays[1::2]):
        if len(images) != len(labels):
            raise DataError(
                f"{folder / images_name}.gz has {len(images)} images but {folder / labels_name}.gz "
                f"has {len(labels)} labels, expected as many"
            )
    return arrays


def _name(folder: Path, arrays: tuple[np.ndarray, ...]) -> str:
    if tuple(map(idx.content_sha256, arrays)) == MNIST_CONTENT_SHA256:
        return "MNIST"
    if standin.is_standin(folder):
        return standin.NAME
    return f"data of {folder.absolute().name}"
