"""Fuzzes the IDX reader, guided by coverage; `make reliability` runs it, with Atheris in an environment of its own.

Usage: `python tools/fuzz_idx.py corpus_folder -max_total_time=600`, with libFuzzer's options.
"""

import gzip
import os
import struct
import sys
import tempfile
import types
from pathlib import Path

import atheris

# An empty package in its place: its own `__init__` would import TensorFlow, which is not installed here.
package = sys.modules["lenet_lab"] = types.ModuleType("lenet_lab")
package.__path__ = [str(Path(__file__).parent.parent / "lenet_lab")]
sys.modules.pop("gzip")  # so that the import below instruments it
with atheris.instrument_imports(include=["lenet_lab.data.idx", "gzip", "_compression"]):
    from lenet_lab.data import idx

PATH = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None), "file.gz")


def read(data: bytes) -> None:
    """Read one input, whose first byte says whether the rest is a whole file or the content of a valid gzip file."""
    PATH.write_bytes(gzip.compress(data[1:], 1) if data[:1] > b"\x7f" else data[1:])
    for reader in (idx.read_images, idx.read_labels):
        try:
            array = reader(PATH)
        except idx.DataError as error:
            assert str(PATH) in str(error)
        else:
            assert array.dtype == "uint8" and array.nbytes <= idx.MAX_CONTENT_BYTES


def write_seeds(corpus: Path) -> None:
    """Write valid files of both kinds, for the fuzzer to begin with."""
    for name, content in (
        ("images", struct.pack(">4I", 2051, 2, 3, 3) + bytes(18)),
        ("labels", struct.pack(">2I", 2049, 5) + bytes(range(5))),
    ):
        (corpus / name).write_bytes(b"\xff" + content)
        (corpus / (name + ".gz")).write_bytes(b"\0" + gzip.compress(content))


def main() -> None:
    """Fuzz until libFuzzer's options end it."""
    write_seeds(Path(sys.argv[1]))
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
