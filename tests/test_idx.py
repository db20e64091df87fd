"""Untrusted data files: whatever a file holds, it gives an array or the one documented error, in bounded memory."""

import gzip
import os
import struct
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lenet_lab.data import idx
from lenet_lab.data.idx import DataError

READERS = {"images": idx.read_images, "labels": idx.read_labels}
MOST_MEMORY = 300_000_000
fuzz = settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_bounded(path, kind):
    """Return the array, or None for a refused file; anything else fails the test."""
    tracemalloc.start()
    try:
        array = READERS[kind](path)
    except DataError as error:
        assert str(path) in str(error)
        array = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MOST_MEMORY
    return array


@st.composite
def files(draw):
    """Draw gzipped IDX files; header, content or compression may be wrong, or nothing."""
    magic = draw(st.sampled_from([2049, 2051, 0, 2**32 - 1]))
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 28, 60000, 2**20, 2**32 - 1]), min_size=1, max_size=4))
    content = draw(st.binary(max_size=100)) + bytes(draw(st.sampled_from([0, 1, 56, 784, 100_000])))
    packed = bytearray(gzip.compress(struct.pack(f">{1 + len(shape)}I", magic, *shape) + content))
    for place, value in draw(st.lists(st.tuples(st.integers(0, len(packed) - 1), st.integers(0, 255)), max_size=3)):
        packed[place] = value
    return bytes(packed[: draw(st.integers(0, len(packed)))] if draw(st.booleans()) else packed)


@fuzz
@given(content=st.one_of(st.binary(max_size=300), files()), kind=st.sampled_from(sorted(READERS)))
def test_every_file_is_read_or_refused(tmp_path, content, kind):
    path = tmp_path / "file.gz"
    path.write_bytes(content)
    array = read_bounded(path, kind)
    if array is not None:
        assert array.dtype == np.uint8 and array.ndim == (4 if kind == "images" else 1)


@fuzz
@given(shape=st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 9), st.just(1)), seed=st.integers(0, 1000))
def test_what_was_written_is_read_back(tmp_path, shape, seed):
    images = np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)
    labels = np.random.RandomState(seed).randint(0, 10, shape[0]).astype(np.uint8)
    idx.write(tmp_path / "images.gz", images)
    idx.write(tmp_path / "labels.gz", labels)
    np.testing.assert_array_equal(idx.read_images(tmp_path / "images.gz"), images)
    np.testing.assert_array_equal(idx.read_labels(tmp_path / "labels.gz"), labels)


@pytest.mark.parametrize("shape", [(2**40 // 784, 28, 28), (2**32 - 1, 2**32 - 1, 2**32 - 1), (150_000, 28, 28)])
def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(tmp_path, shape):
    path = tmp_path / "bomb.gz"
    header = struct.pack(">4I", 2051, *(size % 2**32 for size in shape))
    path.write_bytes(gzip.compress(header + bytes(2_000_000)) + bytes(1_000_000))
    tracemalloc.start()
    with pytest.raises(DataError, match="header promises"):
        idx.read_images(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_gzip_bomb_behind_a_valid_header_is_refused(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(struct.pack(">2I", 2049, 10) + bytes(500_000_000), compresslevel=1))
    assert read_bounded(path, "labels") is None


def test_the_largest_allowed_file_stays_within_the_memory_bound(tmp_path):
    path = tmp_path / "large.gz"
    idx.write(path, np.zeros((idx.MAX_CONTENT_BYTES // 784, 28, 28, 1), np.uint8))
    assert len(read_bounded(path, "images")) == idx.MAX_CONTENT_BYTES // 784


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.gz")
    (tmp_path / "loop.gz").symlink_to(tmp_path / "loop.gz")
    (tmp_path / "folder.gz").mkdir()
    for name in ("pipe.gz", "loop.gz", "folder.gz", "missing.gz"):
        with pytest.raises(DataError, match=f"{name}: can't be read"):
            idx.read_images(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path):
    path = tmp_path / "secret.gz"
    idx.write(path, np.zeros(3, np.uint8))
    path.chmod(0)
    with pytest.raises(DataError, match=r"secret\.gz: can't be read \(Permission denied\)"):
        idx.read_labels(path)


def test_a_file_that_changes_while_it_is_read_gives_one_version_or_an_error(tmp_path):
    path = tmp_path / "changing.gz"
    versions = [np.full(n, n % 10, np.uint8) for n in (50_000, 80_000)]
    idx.write(path, versions[0])
    stop = threading.Event()

    def change():
        while not stop.is_set():
            for version in versions:
                idx.write(path, version)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(50):
            try:
                labels = idx.read_labels(path)
            except DataError:
                continue
            assert any(np.array_equal(labels, version) for version in versions)
    finally:
        stop.set()
        changer.join()
