"""MNIST's four files from their public mirrors: resumed, bounded, checked; nothing half-done under a final name."""

import hashlib
import os
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from urllib.parse import urljoin

import requests
from filelock import FileLock
from tqdm import tqdm
from urllib3.exceptions import HTTPError, ProtocolError

from lenet_lab import idx

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
TIME_LIMIT = 300  # seconds for a file at a mirror; what came is kept, and the next attempt goes on from there
MAX_REDIRECTS = 5
UNFINISHED = ".download"  # the folder, in the data's, of files on their way


class DownloadError(OSError):
    """A file could not be had; the message tells what happened at which mirror."""


def download(name: str, folder: Path, mirrors: tuple[str, ...], sha256: str | None) -> None:
    """Bring one file into a folder from the first mirror that has it right.

    It grows in a folder of its own, is checked, then renamed, so that the final
    name only ever stands for a whole file. An interrupted download goes on where
    it stopped, if the mirror can do that and the checksum is known. Of two
    processes, the second waits for the first and then finds the file there.

    Parameters
    ----------
    name : str
        The file's name at the mirror and in the folder.
    folder : path
        An existing folder.
    mirrors : tuple of str
        Base addresses, tried in order.
    sha256 : str or None
        What the file's SHA-256 must be; None takes any whole IDX file.

    Raises
    ------
    DownloadError
        If no mirror gave the file.
    """
    unfinished = folder / UNFINISHED
    part, lock = unfinished / name, unfinished / (name + ".lock")
    failures = []
    with _locked(lock):
        for mirror in () if (folder / name).exists() else mirrors:
            url = mirror.rstrip("/") + "/" + name
            try:
                _bring(url, part, sha256)
                os.replace(part, folder / name)
                break
            except (requests.RequestException, HTTPError, DownloadError) as error:
                failures.append(f"{url}: {_in_short(error)}")
    if not (folder / name).exists():
        raise DownloadError(f"{name} could not be downloaded; " + "; ".join(failures))
    # Whoever still waits for this lock will find the file there.
    lock.unlink(missing_ok=True)
    with suppress(OSError):  # another file's download is in it
        unfinished.rmdir()


def _locked(lock: Path) -> AbstractContextManager:
    """Held until the `with` ends. A process that is done may delete the folder at any moment before."""
    while True:
        with suppress(FileExistsError):
            lock.parent.mkdir()
        with suppress(FileNotFoundError):
            return FileLock(lock).acquire()


def _bring(url: str, part: Path, sha256: str | None) -> None:
    """Fetch and check; from the beginning if what was there did not fit what came."""
    resumed = sha256 is not None and part.exists() and part.stat().st_size > 0
    try:
        _fetch(url, part, resumed)
        _check(part, sha256)
    except DownloadError:
        if not resumed or part.exists():  # still there: it was stopped for another reason
            raise
        _bring(url, part, sha256)  # nothing is left to resume


def _fetch(url: str, part: Path, resume: bool) -> None:
    """Write what the address gives to a file, after what is in it already if the server can go on from there."""
    deadline = time.monotonic() + TIME_LIMIT
    have = part.stat().st_size if resume else 0
    with _open(url, have) as answer:
        if answer.status_code == requests.codes.range_not_satisfiable:
            part.unlink()
            raise DownloadError("it is shorter than what an earlier download left, which was deleted")
        answer.raise_for_status()
        if answer.status_code != requests.codes.partial_content:
            have = 0
        total = have + int(answer.headers.get("Content-Length", 0)) or None
        with (
            open(part, "ab" if have else "wb") as file,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.name, leave=False) as bar,
        ):
            # `read1` gives what has come; `iter_content` would wait for a whole piece, and lose half a one.
            while piece := answer.raw.read1(1 << 16):
                have += len(piece)
                if have > MAX_BYTES:
                    part.unlink()
                    raise DownloadError(f"more than {MAX_BYTES} bytes came, stopped")
                file.write(piece)
                bar.update(len(piece))
                if time.monotonic() > deadline:
                    raise DownloadError(f"not done after {TIME_LIMIT} seconds, stopped; {have} bytes came")


def _open(url: str, have: int) -> requests.Response:
    """The answer of an address, after its redirects; never from https to an open connection."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    for _ in range(MAX_REDIRECTS + 1):
        answer = requests.get(url, stream=True, timeout=TIMEOUT, headers=headers, allow_redirects=False)
        if not answer.is_redirect:
            return answer
        answer.close()
        target = urljoin(url, answer.headers["Location"])
        if url.startswith("https:") and not target.startswith("https:"):
            raise DownloadError(f"redirected away from https, to {target}")
        url = target
    raise DownloadError(f"redirected more than {MAX_REDIRECTS} times")


def _check(part: Path, sha256: str | None) -> None:
    """Delete what is not the file."""
    content = part.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    try:
        if not content.startswith(b"\x1f\x8b"):
            raise DownloadError(f"not a gzip file: it begins with {content[:20]!r}")
        if sha256 not in (None, digest):
            raise DownloadError(f"its SHA-256 is {digest}, expected {sha256}")
        if sha256 is None:
            idx.read_images(part) if "images" in part.name else idx.read_labels(part)
    except (idx.DataError, DownloadError) as error:
        part.unlink()
        raise DownloadError(str(error)) from error


def _in_short(error: Exception) -> str:
    """One line of a network error; requests and urllib3 wrap the cause in several layers of text."""
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not valid"
    if isinstance(error, requests.Timeout) or "timed out" in text:
        return "no answer in time"
    if isinstance(error, ProtocolError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return text
