"""Coverage-guided fuzzing of the IDX reader; `make reliability` runs it, with Atheris in an environment of its own.

`python tests/fuzz_idx.py corpus_folder -max_total_time=600` takes libFuzzer's options.
"""

import gzip
import os
import struct
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent / "lenet_lab"))  # the module by itself, without TensorFlow
sys.modules.pop("gzip")  # to be imported again, now watched
with atheris.instrument_imports(include=["idx", "gzip", "_compression"]):
    import idx

PATH = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None), "file.gz")


def read(data: bytes) -> None:
    """The first byte tells what the others are: a file as it is, or what is in a good gzip file."""
    PATH.write_bytes(gzip.compress(data[1:], 1) if data[:1] > b"\x7f" else data[1:])
    for reader in (idx.read_images, idx.read_labels):
        try:
            array = reader(PATH)
        except idx.DataError as error:
            assert str(PATH) in str(error)
        else:
            assert array.dtype == "uint8" and array.nbytes <= idx.MAX_BYTES


def write_seeds(corpus: Path) -> None:
    """Good files of both kinds to begin with."""
    for name, content in (
        ("images", struct.pack(">4I", 2051, 2, 3, 3) + bytes(18)),
        ("labels", struct.pack(">2I", 2049, 5) + bytes(range(5))),
    ):
        (corpus / name).write_bytes(b"\xff" + content)
        (corpus / (name + ".gz")).write_bytes(b"\0" + gzip.compress(content))


def main() -> None:
    write_seeds(Path(sys.argv[1]))
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
