"""MNIST as TensorFlow 1 served it: `read_data_sets`, `DataSet`, `next_batch`; stand-in digits when offline.

This module replaces `tensorflow.examples.tutorials.mnist.input_data`, which
TensorFlow 2 no longer has (docs/lab.md, "Data").
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lenet_lab.compat import tf
from lenet_lab.data import idx, standin
from lenet_lab.data.download import MIRRORS, SHA256, DownloadError, download
from lenet_lab.data.idx import DataError
from lenet_lab.paths import LabError, whole_number

IMAGE_SIDE = 28  # pixels; an image has 28 rows and 28 columns
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DEFAULT_SOURCE_URL = MIRRORS[0]
# SHA-256 of the four files' content: data is called MNIST because it is MNIST, not because of its folder's name.
MNIST_CONTENT_SHA256 = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)


class DataSet:
    """Images with their labels, served in batches as by TensorFlow 1.15's `DataSet`.

    A shuffle permutes an index instead of moving the images.

    Parameters
    ----------
    images : numpy.ndarray
        The images, uint8 [count, rows, columns, 1].
    labels : numpy.ndarray
        Classes [count] or one-hot rows [count, classes]; kept as they are.
    fake_data : bool, default False
        Serve constant examples and ignore the images and labels.
    one_hot : bool, default False
        Serve fake labels as one-hot rows. Real labels stay as they are.
    dtype : tf.DType, default tf.float32
        The type of the images, tf.float32 or tf.uint8. Float images are scaled
        from 0..255 to 0..1.
    reshape : bool, default True
        Flatten the images to [count, rows * columns].
    seed : int, optional
        Seed of NumPy's global generator, with which `next_batch` shuffles, as
        in 1.15. Without it, the graph's seed counts; without that either, the
        order differs from run to run.
    name : str, default "unnamed data"
        What the data is, for titles and tables.

    Raises
    ------
    LabError
        If the seed is not a whole number.
    TypeError
        If `dtype` is neither float32 nor uint8.
    AssertionError
        If the numbers of images and labels differ.

    Examples
    --------
    >>> import numpy as np
    >>> from lenet_lab import tf
    >>> from lenet_lab.input_data import DataSet
    >>> images = np.zeros((6, 28, 28, 1), np.uint8)
    >>> digits = DataSet(images, labels=np.arange(6), seed=1)
    >>> digits.images.shape
    (6, 784)

    The last examples of an epoch share a batch with the first of the next one:

    >>> digits.next_batch(4, shuffle=False)[1]
    array([0, 1, 2, 3])
    >>> digits.next_batch(4, shuffle=False)[1]
    array([4, 5, 0, 1])
    >>> digits.epochs_completed
    1
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        fake_data: bool = False,
        one_hot: bool = False,
        dtype: tf.DType = tf.float32,
        reshape: bool = True,
        seed: int | None = None,
        name: str = "unnamed data",
    ):
        if seed is not None:
            whole_number("seed", seed)
        graph_seed, op_seed = tf.get_seed(seed)
        np.random.seed(graph_seed if seed is None else op_seed)
        dtype = tf.as_dtype(dtype).base_dtype
        if dtype not in (tf.uint8, tf.float32):
            raise TypeError(f"Invalid image dtype {dtype!r}, expected uint8 or float32")
        self.name = name
        self.one_hot = one_hot
        self._epochs_completed = 0
        self._index_in_epoch = 0
        self._order: np.ndarray | None = None  # the shuffle not yet applied to images and labels
        self._fake_data = fake_data
        if fake_data:
            self._num_examples = 10000
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
        """The number of images."""
        return self._num_examples

    @property
    def epochs_completed(self) -> int:
        """How many epochs `next_batch` has finished; an epoch ends with the call that needs its successor."""
        return self._epochs_completed

    def next_batch(
        self, batch_size: int, fake_data: bool = False, shuffle: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the next examples, in the same order as TensorFlow 1.15 for the same seed.

        The last examples of an epoch share a batch with the first of the next
        one. With `shuffle`, the set is shuffled before its first batch and
        whenever an epoch ends within a call.

        Parameters
        ----------
        batch_size : int
            From 1 to `num_examples`.
        fake_data : bool, default False
            Return constant examples, as a set made with `fake_data` always does.
        shuffle : bool, default True
            False keeps the order as it is.

        Returns
        -------
        images : numpy.ndarray
            Of shape [batch_size, ...]; a list if they are fake.
        labels : numpy.ndarray
            Of shape [batch_size, ...]; a list if they are fake.

        Raises
        ------
        LabError
            If `batch_size` is not a whole number from 1 to `num_examples`.
        """
        if fake_data or self._fake_data:
            return self._fake_batch(batch_size)
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
        """Pass over the set once in a new random order, in whole batches (docs/lab.md, "Question: training").

        Examples that do not fill a batch are left out; they are different ones
        in every pass. What `next_batch` will serve stays the same.

        Parameters
        ----------
        batch_size : int
            From 1 to `num_examples`.
        rng : numpy.random.RandomState
            What the order is drawn from.
        at_a_time : int, default 1
            How many batches to yield together; the last time there may be fewer.

        Yields
        ------
        images : numpy.ndarray
            Of shape [at_a_time, batch_size, ...]. The next ones overwrite their memory.
        labels : numpy.ndarray
            Of shape [at_a_time, batch_size, ...].

        Raises
        ------
        LabError
            If `batch_size` is not a whole number from 1 to `num_examples`.
        """
        self.check_batch_size(batch_size)
        batches = self._num_examples // batch_size
        order = rng.permutation(self._num_examples)[: batches * batch_size].reshape(batches, batch_size)
        images = _aligned_empty((min(at_a_time, batches), batch_size, *self._images.shape[1:]), self._images.dtype)
        for start in range(0, batches, at_a_time):
            group = order[start : start + at_a_time]
            # With mode="raise", NumPy would copy through a second array.
            np.take(self._images, group, axis=0, out=images[: len(group)], mode="clip")
            yield images[: len(group)], self._labels[group]

    def check_form(self, what: str = "the data set") -> None:
        """Check that a network can read the set: flat images with one-hot labels, at least one of them.

        Parameters
        ----------
        what : str, default "the data set"
            Its name in the error message.

        Raises
        ------
        LabError
            If the set has another form or is empty.
        """
        if self._fake_data:
            raise LabError("fake data has no images; read real data, without fake_data=True")
        if not self._num_examples:
            raise LabError(f"{what} is empty, expected at least one image")
        shapes = self._images.shape[1:], self._labels.shape[1:]
        if shapes != ((IMAGE_SIDE**2,), (10,)):
            raise LabError(
                f"images and labels of {what} have shapes {shapes[0]} and {shapes[1]}, expected (784,) and (10,); "
                "read the data with reshape=True and one_hot=True"
            )

    def check_batch_size(self, batch_size: int) -> None:
        """Check that a batch of this size can be taken from the set.

        Parameters
        ----------
        batch_size : int
            The number of examples in a batch.

        Raises
        ------
        LabError
            If it is not a whole number from 1 to `num_examples`, or the set is fake.
        """
        if self._fake_data:
            raise LabError("fake data has no images; read real data, without fake_data=True")
        whole_number("batch size", batch_size)
        if not self._num_examples:
            raise LabError(f"batch size is {batch_size}, but the set has no examples; check validation_size")
        if not 1 <= batch_size <= self._num_examples:
            raise LabError(f"batch size is {batch_size}, expected 1 to {self._num_examples}, the size of the set")

    def _fake_batch(self, batch_size: int) -> Any:
        label = [1] + [0] * 9 if self.one_hot else 0
        return [[1] * 784 for _ in range(batch_size)], [label for _ in range(batch_size)]

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


class Datasets(NamedTuple):
    """The three parts of a data set, and its name."""

    train: DataSet
    validation: DataSet
    test: DataSet

    @property
    def name(self) -> str:
        """`MNIST`, `stand-in digits`, or the name of the folder that the data came from."""
        return self.train.name


def read_data_sets(
    train_dir: str,
    fake_data: bool = False,
    one_hot: bool = False,
    dtype: tf.DType = tf.float32,
    reshape: bool = True,
    validation_size: int = 5000,
    seed: int | None = None,
    source_url: str = DEFAULT_SOURCE_URL,
    fallback: bool = True,
) -> Datasets:
    """Read MNIST: 55,000 training, 5,000 validation and 10,000 test images (docs/lab.md, "Data").

    The four files are looked for in the folder that the environment variable
    `LENET_LAB_DATA` names, then in `train_dir`. Files that `train_dir` lacks are
    downloaded into it. Offline, stand-in digits take MNIST's place: real
    handwritten digits, but not MNIST's, in `train_dir/stand-in`. A message says
    so, and every title and table made from them bears their name.

    Parameters
    ----------
    train_dir : str
        The folder of the four .gz files; created if necessary.
    fake_data : bool, default False
        Serve constant examples and read no files, to test a program.
    one_hot : bool, default False
        Return labels as float64 rows [10] instead of uint8 classes.
    dtype : tf.DType, default tf.float32
        The type of the images, tf.float32 (0..1) or tf.uint8 (0..255).
    reshape : bool, default True
        Flatten the images to [count, 784]; otherwise they are [count, 28, 28, 1].
    validation_size : int, default 5000
        How many of the first training images to set aside for validation.
    seed : int, optional
        Seed of NumPy's global generator, with which `next_batch` shuffles.
    source_url : str, default the first of two public mirrors
        Where to download from. With the default, both mirrors are tried and the
        files' checksums are checked.
    fallback : bool, default True
        Whether stand-in digits may take MNIST's place. With False, missing data
        is an error.

    Returns
    -------
    Datasets
        The data sets `train`, `validation` and `test`, and the data's `name`.

    Raises
    ------
    DataError
        If a file is damaged or not what it should be, if the folder can't be
        written to, or, without `fallback`, if the data can't be downloaded.
    LabError
        If `validation_size` is not a whole number from 0 to the number of
        training images, or if `seed` is not a whole number.
    TypeError
        If `dtype` is neither float32 nor uint8.

    Examples
    --------
    Fake data needs no files; leave `fake_data` out to read MNIST:

    >>> from lenet_lab import input_data
    >>> mnist = input_data.read_data_sets("MNIST_data/", fake_data=True, one_hot=True)
    >>> mnist.name, mnist.train.num_examples
    ('fake data', 10000)
    >>> images, labels = mnist.train.next_batch(2)
    >>> labels
    [[1, 0, 0, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
    """
    whole_number("validation_size", validation_size)
    if seed is not None:
        whole_number("seed", seed)
    options: dict[str, Any] = {"dtype": dtype, "reshape": reshape, "seed": seed}
    if fake_data:
        options.update(fake_data=True, one_hot=one_hot, name="fake data")
        nothing: Any = []
        return Datasets(*(DataSet(nothing, nothing, **options) for _ in Datasets._fields))

    folder = _find_folder(train_dir, source_url or DEFAULT_SOURCE_URL, fallback)
    train_images, train_labels, test_images, test_labels = _read_files(folder)
    name = _name(folder, (train_images, train_labels, test_images, test_labels))
    if not 0 <= validation_size <= len(train_images):
        raise LabError(f"Validation size should be between 0 and {len(train_images)}. Received: {validation_size}.")
    if one_hot:
        train_labels, test_labels = dense_to_one_hot(train_labels, 10), dense_to_one_hot(test_labels, 10)
    v = validation_size
    return Datasets(
        train=DataSet(train_images[v:], train_labels[v:], name=name, **options),
        validation=DataSet(train_images[:v], train_labels[:v], name=name, **options),
        test=DataSet(test_images, test_labels, name=name, **options),
    )


def load_mnist(train_dir: str = "MNIST-data") -> Datasets:
    """Read MNIST with every other setting of `read_data_sets` at its default.

    Parameters
    ----------
    train_dir : str, default "MNIST-data"
        The folder of the four .gz files.

    Returns
    -------
    Datasets
        As from `read_data_sets`.
    """
    return read_data_sets(train_dir)


def read_mnist(train_dir: str) -> Datasets:
    """Read MNIST and nothing else, with one-hot labels, for results that are committed.

    Parameters
    ----------
    train_dir : str
        The folder of the four .gz files.

    Returns
    -------
    Datasets
        As from `read_data_sets`.

    Raises
    ------
    DataError
        If MNIST can't be read or downloaded, or if the files hold other data.
    """
    mnist = read_data_sets(train_dir, one_hot=True, fallback=False)
    if mnist.name != "MNIST":
        raise DataError(
            f"found {mnist.name}, expected MNIST, on which alone committed results are made; "
            "set LENET_LAB_DATA to a folder with MNIST's four files"
        )
    return mnist


def dense_to_one_hot(labels_dense: np.ndarray, num_classes: int) -> np.ndarray:
    """Turn classes into one-hot rows.

    Parameters
    ----------
    labels_dense : numpy.ndarray
        Classes from 0 to `num_classes` - 1, int [count].
    num_classes : int
        The length of a row.

    Returns
    -------
    numpy.ndarray
        Rows with a single 1, float64 [count, num_classes].
    """
    return np.eye(num_classes)[labels_dense.ravel()]


def _aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array that begins at a multiple of 64 bytes, which TensorFlow takes without a copy."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def _find_folder(train_dir: str, source_url: str, fallback: bool) -> Path:
    """The folder with the four files; if necessary, download them or make the stand-in digits."""
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
        failure = error
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{folder}: can't hold the data ({reason}); choose a folder you can write to") from error
    if not fallback:
        raise DataError(f"MNIST is not in {folder}, and {failure}") from failure
    _announce_standin(failure)
    return standin.make(folder / "stand-in")


def _missing(folder: Path) -> list[str]:
    return [name + ".gz" for name in FILES if not (folder / (name + ".gz")).exists()]


def _download(names: list[str], folder: Path, source_url: str) -> None:
    # A user's own mirror may serve other data in MNIST's form, of which no checksum is known.
    official = source_url == DEFAULT_SOURCE_URL
    mirrors = MIRRORS if official else (source_url,)
    for name in names:
        download(name, folder, mirrors, SHA256[name] if official else None)


def _announce_standin(error: DownloadError) -> None:
    message = (
        f"MNIST CAN'T BE REACHED ({error}). Continuing with STAND-IN DIGITS, which are not MNIST: "
        "scikit-learn's 1,797 handwritten digits, enlarged and distorted. Accuracies differ from MNIST's. "
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
                f"has {len(labels)} labels, expected the same number; check where the files are from"
            )
    return arrays


def _name(folder: Path, arrays: tuple[np.ndarray, ...]) -> str:
    if tuple(map(idx.content_sha256, arrays)) == MNIST_CONTENT_SHA256:
        return "MNIST"
    if standin.is_standin(folder):
        return standin.DATA_NAME
    return f"data of {folder.absolute().name}"
