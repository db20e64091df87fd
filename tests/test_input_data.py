"""Reading MNIST: TensorFlow 1.15's interface, the stand-in digits, bad files, downloads from a server on loopback."""

import gzip
import http.server
import shutil
import struct
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from lenet_lab import input_data, tf
from lenet_lab.data import idx, standin
from lenet_lab.input_data import DataError, DataSet, read_data_sets
from lenet_lab.paths import LabError

try:
    import resource
except ImportError:  # Windows
    resource = None

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = (f"{name}.gz" for name in input_data.FILES)


def numbered(count, **options):
    """A data set whose image number n is filled with n and labelled n % 10."""
    images = np.arange(count, dtype=np.uint8).repeat(784).reshape(count, 28, 28, 1)
    return DataSet(images, np.arange(count, dtype=np.uint8) % 10, dtype=tf.uint8, **options)


# TensorFlow 1.15's interface


def test_the_three_parts_have_the_shapes_and_types_of_115(small_folder, monkeypatch, capsys):
    monkeypatch.setenv("LENET_LAB_DATA", str(small_folder))
    train, validation, test = mnist = read_data_sets("unused", one_hot=True)
    assert mnist.train is train
    assert (train.num_examples, validation.num_examples, test.num_examples) == (1000, 5000, 500)
    assert train.images.shape == (1000, 784) and train.images.dtype == np.float32
    assert train.images.min() == 0 and train.images.max() == 1
    assert train.labels.shape == (1000, 10) and train.labels.dtype == np.float64
    assert (train.labels.sum(axis=1) == 1).all()
    assert f"Extracting {small_folder / TRAIN_IMAGES}" in capsys.readouterr().out


def test_options_do_what_they_did_in_115(small_folder, monkeypatch):
    monkeypatch.setenv("LENET_LAB_DATA", str(small_folder))
    mnist = read_data_sets("unused", dtype=tf.uint8, reshape=False, validation_size=100)
    assert mnist.train.num_examples == 5900
    assert mnist.train.images.shape == (5900, 28, 28, 1) and mnist.train.images.dtype == np.uint8
    assert mnist.train.labels.shape == (5900,) and mnist.train.labels.dtype == np.uint8
    with pytest.raises(LabError, match=r"^Validation size should be between 0 and 6000. Received: 6001.$"):
        read_data_sets("unused", validation_size=6001)
    with pytest.raises(TypeError, match=r"^Invalid image dtype tf.int32, expected uint8 or float32$"):
        read_data_sets("unused", dtype=tf.int32)


@pytest.mark.parametrize("option", ["validation_size", "seed"])
@pytest.mark.parametrize("value", ["5000", 0.5, 5000.0, [1]])
def test_a_number_of_the_wrong_type_is_one_clear_error(option, value, small_folder, monkeypatch, capsys):
    monkeypatch.setenv("LENET_LAB_DATA", str(small_folder))
    for fake_data in (False, True):
        with pytest.raises(LabError, match=f"^{option} is .*, expected a whole number$"):
            read_data_sets("unused", fake_data=fake_data, **{option: value})
    assert capsys.readouterr().out == ""  # before any file is read


def test_negative_and_numpy_seeds_repeat_an_order():
    for seed in (-1, 2**40, np.int64(3)):
        first, second = (numbered(50, seed=seed).next_batch(50)[1] for _ in range(2))
        np.testing.assert_array_equal(first, second)


def test_fake_data_needs_no_files():
    mnist = read_data_sets("nowhere", fake_data=True, one_hot=True)
    for images, labels in (mnist.train.next_batch(2, fake_data=True), mnist.train.next_batch(2)):
        assert (images, labels) == ([[1] * 784] * 2, [[1] + [0] * 9] * 2)
    assert mnist.test.num_examples == 10000
    assert mnist.name == "fake data"


def test_fake_data_is_not_for_training():
    mnist = read_data_sets("nowhere", fake_data=True)
    with pytest.raises(LabError, match="fake data has no images; read real data, without fake_data=True"):
        next(mnist.train.epoch(10, np.random.RandomState(0)))


def test_real_data_serves_fake_examples_on_request():
    assert numbered(10).next_batch(2, fake_data=True) == ([[1] * 784] * 2, [0, 0])


def test_an_epoch_is_every_image_once_and_batches_cross_its_end():
    data = numbered(100, seed=1)
    drawn = np.concatenate([data.next_batch(30)[0][:, 0] for _ in range(10)])
    for epoch in range(3):
        assert sorted(drawn[epoch * 100 : epoch * 100 + 100]) == list(range(100))
    assert not np.array_equal(drawn[:100], drawn[100:200])
    assert data.epochs_completed == 2  # 300 drawn: the third ends with the next call, as in 1.15
    data.next_batch(30)
    assert data.epochs_completed == 3


def test_images_and_labels_read_in_the_shuffled_order():
    data = numbered(50, seed=2)
    batch, labels = data.next_batch(20)
    np.testing.assert_array_equal(data.images[:20], batch)
    np.testing.assert_array_equal(data.labels[:20], labels)
    np.testing.assert_array_equal(data.images[:, 0] % 10, data.labels)


def test_without_shuffle_the_order_stays():
    data = numbered(10)
    assert [list(data.next_batch(4, shuffle=False)[0][:, 0]) for _ in range(3)] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "size, expected",
    [(0, "1 to 10"), (-1, "1 to 10"), (11, "1 to 10"), (2.5, "a whole number"), ("2", "a whole number")],
)
def test_impossible_batch_sizes_are_refused_and_change_nothing(size, expected):
    data = numbered(10)
    with pytest.raises(LabError, match=f"batch size is {size!r}, expected {expected}"):
        data.next_batch(size)
    with pytest.raises(LabError, match=f"batch size is {size!r}, expected {expected}"):
        next(data.epoch(size, np.random.RandomState(0)))
    assert list(data.next_batch(3, shuffle=False)[0][:, 0]) == [0, 1, 2]


def test_a_set_without_examples_serves_no_batch():
    with pytest.raises(LabError, match="batch size is 1, but the set has no examples; check validation_size"):
        numbered(0).next_batch(1)


def test_the_whole_set_may_be_one_batch():
    assert sorted(numbered(10).next_batch(10)[0][:, 0]) == list(range(10))
    ((images, labels),) = numbered(10).epoch(10, np.random.RandomState(0), at_a_time=5)
    assert images.shape == (1, 10, 784) and sorted(labels[0]) == list(range(10))


def test_an_epoch_of_whole_batches_is_in_a_new_order_each_time():
    data, rng = numbered(100), np.random.RandomState(5)
    first, second = ([batch[0, :, 0].copy() for batch, _ in data.epoch(30, rng)] for _ in range(2))
    assert [len(batch) for batch in first] == [30, 30, 30]
    assert len(set(np.concatenate(first))) == 90
    assert not np.array_equal(first, second)


# The stand-in


@pytest.mark.network
def test_offline_the_standin_is_announced_even_with_warnings_off(offline, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(standin, "SIZES", {"validation": 50, "train": 150, "test": 40})
    monkeypatch.setattr("warnings.filters", [("ignore", None, Warning, None, 0)])
    mnist = read_data_sets(str(tmp_path), one_hot=True, validation_size=50)
    assert mnist.name == mnist.train.name == "stand-in digits"
    assert "not MNIST" in capsys.readouterr().err
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "stand-in").iterdir()}
    read_data_sets(str(tmp_path), validation_size=50)
    assert files == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "stand-in").iterdir()}


TINY = {"validation": 20, "train": 60, "test": 20}


@contextmanager
def file_size_limit(size):
    """What a full disk does to files that grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.network
@pytest.mark.skipif(resource is None, reason="file sizes can't be limited here")
def test_a_full_disk_while_the_standin_is_made_is_one_error_and_leaves_nothing(offline, tmp_path, monkeypatch):
    monkeypatch.setattr(standin, "SIZES", TINY)
    with (
        file_size_limit(5000),
        pytest.raises(DataError, match=r"stand-in: the stand-in digits can't be written .*File too"),
    ):
        read_data_sets(str(tmp_path))
    assert not any("stand-in" in path.name for path in tmp_path.iterdir())
    assert read_data_sets(str(tmp_path), validation_size=20).train.num_examples == 60


@pytest.mark.network
@pytest.mark.parametrize("obstacle", ["a file", "a folder with something in it"])
def test_what_is_in_the_standins_way_is_named_and_kept(offline, tmp_path, monkeypatch, obstacle):
    monkeypatch.setattr(standin, "SIZES", TINY)
    mine = tmp_path / "stand-in" if obstacle == "a file" else tmp_path / "stand-in" / "mine"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    message = r"stand-in: the stand-in digits can't be written there \(.*\); .*remove what is in the way"
    with pytest.raises(DataError, match=message):
        read_data_sets(str(tmp_path))
    assert mine.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.name != "stand-in"] in ([], [".download"])


def test_a_folder_that_the_standin_cannot_be_made_in_is_named(tmp_path):
    (tmp_path / "file").touch()
    for parent in ("file", "nowhere"):
        with pytest.raises(DataError, match=f"{parent}.stand-in: .* choose a folder that you can write to"):
            standin.make(tmp_path / parent / "stand-in", TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_deleted_file_of_the_standin_is_made_again(tmp_path):
    folder = standin.make(tmp_path / "stand-in", TINY)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / TRAIN_LABELS).unlink()
    assert standin.make(folder, TINY) == folder
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["stand-in"]


@pytest.mark.network
def test_without_fallback_missing_data_is_an_error(offline, tmp_path):
    with pytest.raises(DataError, match="no connection"):
        read_data_sets(str(tmp_path), fallback=False)
    assert not list(tmp_path.glob("*.gz"))


def test_no_scan_is_on_two_sides():
    from sklearn.datasets import load_digits

    labels = load_digits().target
    parts = standin.split_scans(np.random.RandomState(standin.SEED), labels)
    everything = np.concatenate(list(parts.values()))
    assert sorted(everything) == list(range(1797))
    for part, scans in parts.items():
        assert len(scans) == pytest.approx(1797 * standin.SIZES[part] / 70000, abs=10)
        assert set(labels[scans]) == set(range(10))


def test_the_standin_is_the_same_every_time(tmp_path):
    folders = [standin.make(tmp_path / name, TINY) for name in ("a", "b")]
    for name in (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name not in "ab"] == []


def test_standin_images_are_full_size_and_varied(small_folder):
    images = idx.read_images(small_folder / TRAIN_IMAGES)
    assert images.shape == (6000, 28, 28, 1) and images.max() == 255
    assert len(np.unique(images.reshape(6000, -1), axis=0)) == 6000


def test_other_data_in_mnists_files_is_not_called_mnist(small_folder, tmp_path, monkeypatch):
    folder = tmp_path / "MNIST_data"
    shutil.copytree(small_folder, folder)
    assert read_data_sets(str(folder)).name == "stand-in digits"
    (folder / standin.MARKER).unlink()
    assert read_data_sets(str(folder)).name == "data of MNIST_data"


# Bad files: one error that names the file


def header_and_zeros(magic, *shape):
    return struct.pack(f">{1 + len(shape)}I", magic, *shape) + bytes(int(np.prod(shape)))


def flipped(data):
    """Invert one byte in the middle, as a bad disk would."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "name, content, message",
    [
        (TRAIN_IMAGES, b"", "truncated"),
        (TRAIN_IMAGES, b"not gzip", "corrupt gzip"),
        (TRAIN_IMAGES, gzip.compress(header_and_zeros(2051, 6000, 28, 28))[:-9], "truncated or corrupt gzip"),
        (TRAIN_IMAGES, flipped(gzip.compress(header_and_zeros(2051, 6000, 28, 28))), "corrupt gzip"),
        (TRAIN_IMAGES, gzip.compress(header_and_zeros(2049, 6000)), "Invalid magic number 2049 in MNIST image file: "),
        (
            TRAIN_LABELS,
            gzip.compress(header_and_zeros(2051, 1, 28, 28)),
            "Invalid magic number 2051 in MNIST label file: ",
        ),
        (
            TRAIN_IMAGES,
            gzip.compress(header_and_zeros(2051, 6000, 28, 28)[:-1]),
            "4703999 bytes where 4704000 were expected",
        ),
        (TRAIN_IMAGES, gzip.compress(header_and_zeros(2051, 6000, 28, 28) + b"x"), "more than the 4704000 bytes"),
        (TRAIN_IMAGES, gzip.compress(struct.pack(">4I", 2051, 2**31, 2**20, 2**20)), "header promises"),
        (TRAIN_IMAGES, gzip.compress(header_and_zeros(2051, 5999, 28, 28)), "5999 images but .* 6000 labels"),
        (TRAIN_LABELS, gzip.compress(struct.pack(">2I", 2049, 6000) + bytes(5999) + b"\x0a"), "label 10 found"),
        (TEST_LABELS, gzip.compress(header_and_zeros(2049, 3)), "500 images but .* 3 labels"),
    ],
    # gzip writes the time into its bytes, and pytest-xdist's workers must agree on the names.
    ids=lambda value: "content" if isinstance(value, bytes) else None,
)
def test_a_bad_file_is_named_with_what_was_expected(small_folder, tmp_path, name, content, message):
    folder = tmp_path / "data"
    shutil.copytree(small_folder, folder)
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_data_sets(str(folder))
    assert name in str(caught.value)
    assert (folder / name).read_bytes() == content


def test_a_directory_in_place_of_a_file_is_refused(small_folder, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(small_folder, folder)
    (folder / TEST_IMAGES).unlink()
    (folder / TEST_IMAGES).mkdir()
    with pytest.raises(DataError, match=f"{TEST_IMAGES}: can't be read"):
        read_data_sets(str(folder))


def test_a_folder_that_cannot_be_made_is_an_error(offline, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="choose a folder you can write to"):
        read_data_sets(str(tmp_path / "file" / "data"))


def test_a_named_folder_without_the_files_is_reported_and_passed_over(small_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LENET_LAB_DATA", str(tmp_path))
    assert read_data_sets(str(small_folder)).train.num_examples == 1000
    assert f"LENET_LAB_DATA names {tmp_path}, which lacks train-images" in capsys.readouterr().err


# Downloads


@pytest.fixture
def server(small_folder):
    """A loopback server of the small data; `answers` replaces the content of single files."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            name = self.path.rpartition("/")[2]
            body = answers.get(name) or (small_folder / name).read_bytes()
            self.send_response(503 if body == b"unavailable" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    answers, requests = {}, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.answers, httpd.requests = answers, requests
        httpd.url = f"http://127.0.0.1:{httpd.server_port}/"
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield httpd
        httpd.shutdown()


@pytest.mark.network
def test_missing_files_are_downloaded_once(server, small_folder, tmp_path):
    for _ in range(2):
        mnist = read_data_sets(str(tmp_path), source_url=server.url, fallback=False)
    assert mnist.train.num_examples == 1000
    assert sorted(server.requests) == sorted(f"/{name}.gz" for name in input_data.FILES)
    assert (tmp_path / TRAIN_IMAGES).read_bytes() == (small_folder / TRAIN_IMAGES).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.gz" for name in input_data.FILES)


@pytest.mark.network
def test_a_mirror_that_fails_is_followed_by_the_next(server, tmp_path, monkeypatch):
    monkeypatch.setattr(input_data, "MIRRORS", (server.url + "first/", server.url + "second/"))
    server.answers[TRAIN_LABELS] = b"unavailable"
    with pytest.raises(DataError, match=r"(?s)first/.*SHA-256 is .*second/.*SHA-256 is .*expected 440fcabf"):
        read_data_sets(str(tmp_path), fallback=False)  # the small data is not MNIST
    assert server.requests == [f"/first/{TRAIN_IMAGES}", f"/second/{TRAIN_IMAGES}"]
    assert not list(tmp_path.glob("*.gz"))


@pytest.mark.network
def test_an_error_page_is_reported_with_its_address(server, tmp_path):
    server.answers[TRAIN_IMAGES] = b"unavailable"
    with pytest.raises(DataError, match=f"503 .*{server.url}{TRAIN_IMAGES}"):
        read_data_sets(str(tmp_path), source_url=server.url, fallback=False)
    assert not list(tmp_path.glob("*.gz"))


# The real files, where they are found


def test_the_real_mnist_is_recognized_and_split(real_folder, monkeypatch):
    monkeypatch.setenv("LENET_LAB_DATA", real_folder)
    mnist = read_data_sets("unused", one_hot=True)
    assert mnist.name == "MNIST"
    assert [part.num_examples for part in mnist] == [55000, 5000, 10000]
    assert f"{mnist.test.labels[:, 0].mean():.1%}" == "9.8%"  # the lab's accuracy before training
