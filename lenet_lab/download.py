"""MNIST's four files from their public mirrors: https, checksums, nothing half-done under a final name."""

import hashlib
import os
import tempfile
from pathlib import Path

import requests
from tqdm import tqdm

MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
# SHA-256 of each .gz file, as published with the data set since 1998.
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MAX_BYTES = 50_000_000  # five times the largest file: an endless answer is cut off
TIMEOUT = (3.05, 20)  # seconds to connect, and between two pieces


class DownloadError(OSError):
    """A file could not be had; the message tells what happened at which mirror."""


def download(name: str, folder: Path, mirrors: tuple[str, ...], sha256: str | None) -> None:
    """Bring one file into a folder from the first mirror that has it right.

    It is written under a temporary name, checked, then renamed, so that the
    final name only ever stands for a whole file.

    Parameters
    ----------
    name : str
        The file's name at the mirror and in the folder.
    folder : path
        An existing folder.
    mirrors : tuple of str
        Base addresses, tried in order.
    sha256 : str or None
        What the file's SHA-256 must be; None takes it as it comes.

    Raises
    ------
    DownloadError
        If no mirror gave the file.
    """
    failures = []
    for mirror in mirrors:
        url = mirror.rstrip("/") + "/" + name
        # The name is drawn at random: two processes may download into one folder.
        handle, temporary = tempfile.mkstemp(prefix=name + ".", suffix=".part", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                digest = _fetch(url, file)
            if sha256 not in (None, digest):
                raise DownloadError(f"its SHA-256 is {digest}, expected {sha256}")
            os.replace(temporary, folder / name)
            return
        except (requests.RequestException, DownloadError) as error:
            failures.append(f"{url}: {_in_short(error)}")
        finally:
            Path(temporary).unlink(missing_ok=True)
    raise DownloadError(f"{name} could not be downloaded; " + "; ".join(failures))


def _fetch(url: str, file) -> str:
    digest = hashlib.sha256()
    received = 0
    with requests.get(url, stream=True, timeout=TIMEOUT) as answer:
        answer.raise_for_status()
        if url.startswith("https:") and not answer.url.startswith("https:"):
            raise DownloadError(f"redirected away from https, to {answer.url}")
        total = int(answer.headers.get("Content-Length", 0)) or None
        with tqdm(total=total, unit="B", unit_scale=True, desc=os.path.basename(url), leave=False) as bar:
            for piece in answer.iter_content(1 << 16):
                received += len(piece)
                if received > MAX_BYTES:
                    raise DownloadError(f"more than {MAX_BYTES} bytes came, stopped")
                file.write(piece)
                digest.update(piece)
                bar.update(len(piece))
    return digest.hexdigest()


def _in_short(error: Exception) -> str:
    """One line of a network error; requests wraps the cause in several layers of text."""
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return str(error)
