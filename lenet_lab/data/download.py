"""Downloads MNIST's four files from public mirrors: resumable, bounded, and checked before a file gets its name."""

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

from lenet_lab.data import idx

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
MAX_DOWNLOAD_BYTES = 50_000_000  # five times the largest .gz file, to cut off an endless response
TIMEOUT = (3.05, 20)  # seconds to connect, and between two pieces
TIME_LIMIT = 300  # seconds for a file from one mirror; the next attempt continues with what has arrived
MAX_REDIRECTS = 5
UNFINISHED = ".download"  # the folder, inside the data's folder, for unfinished files


class DownloadError(OSError):
    """A file could not be downloaded; the message says what happened at which mirror."""


def download(name: str, folder: Path, mirrors: tuple[str, ...], sha256: str | None) -> None:
    """Download one file into a folder from the first mirror that serves it correctly.

    The file grows in a folder of its own, is checked, and is then renamed, so
    that the final name always stands for a whole file. An interrupted download
    continues where it stopped if the server allows it and the checksum is known.
    If two processes download at once, the second waits for the first and finds
    the file there.

    Parameters
    ----------
    name : str
        The file's name at the mirror and in the folder.
    folder : pathlib.Path
        An existing folder.
    mirrors : tuple of str
        Base addresses, tried in order.
    sha256 : str or None
        The file's SHA-256; None accepts any whole IDX file.

    Raises
    ------
    DownloadError
        If no mirror served the file.
    OSError
        If the folder can't be written to.
    """
    unfinished = folder / UNFINISHED
    part, lock = unfinished / name, unfinished / (name + ".lock")
    failures = []
    with _locked(lock):
        for mirror in () if (folder / name).exists() else mirrors:
            url = mirror.rstrip("/") + "/" + name
            try:
                _fetch_checked(url, part, sha256)
                os.replace(part, folder / name)
                break
            except (requests.RequestException, HTTPError, DownloadError) as error:
                failures.append(f"{url}: {_summary(error)}")
    if not (folder / name).exists():
        raise DownloadError(f"{name} could not be downloaded; " + "; ".join(failures))
    # A process that still waits for this lock will find the file there.
    lock.unlink(missing_ok=True)
    with suppress(OSError):  # the folder still holds another file's download
        unfinished.rmdir()


def _locked(lock: Path) -> AbstractContextManager:
    """A lock that is held until the `with` block ends."""
    while True:  # until then, a process that has finished may delete the folder at any moment
        with suppress(FileExistsError):
            lock.parent.mkdir()
        try:
            return FileLock(lock).acquire()
        except (FileNotFoundError, FileExistsError):  # the second if it is deleted while FileLock makes it
            if lock.parent.is_file():
                raise


def _fetch_checked(url: str, part: Path, sha256: str | None) -> None:
    """Fetch and check a file; if what came does not fit an earlier beginning, fetch it again as a whole."""
    resumed = sha256 is not None and part.exists() and part.stat().st_size > 0
    try:
        _fetch(url, part, resumed)
        _check(part, sha256)
    except DownloadError:
        if not resumed or part.exists():  # if the file is still there, it was stopped for another reason
            raise
        _fetch_checked(url, part, sha256)  # now nothing is left to resume


def _fetch(url: str, part: Path, resume: bool) -> None:
    """Write the response into a file; to resume, append it to what is there, if the server can continue."""
    deadline = time.monotonic() + TIME_LIMIT
    have = part.stat().st_size if resume else 0
    with _open(url, have) as response:
        if response.status_code == requests.codes.range_not_satisfiable:
            part.unlink()
            raise DownloadError("the file is shorter than what an earlier download left, which was deleted")
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            have = 0
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None  # only the progress bar needs it
        with (
            open(part, "ab" if have else "wb") as file,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.name, leave=False) as bar,
        ):
            # `read1` returns what has arrived. `iter_content` waits for a whole piece and loses a part of one.
            while piece := response.raw.read1(1 << 16):
                have += len(piece)
                file.write(piece)
                bar.update(len(piece))
                if have > MAX_DOWNLOAD_BYTES or time.monotonic() > deadline:
                    break
            else:
                return
    if have > MAX_DOWNLOAD_BYTES:
        part.unlink()
        raise DownloadError(f"stopped after more than {MAX_DOWNLOAD_BYTES} bytes")
    raise DownloadError(f"stopped after {TIME_LIMIT} seconds with {have} bytes")


def _open(url: str, have: int) -> requests.Response:
    """Request what is missing of a file and follow redirects, but never from https to an unencrypted connection."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    for _ in range(MAX_REDIRECTS + 1):
        try:
            response = requests.get(url, stream=True, timeout=TIMEOUT, headers=headers, allow_redirects=False)
            if not response.is_redirect:
                return response
            response.close()
            target = urljoin(url, response.headers["Location"])
        except requests.RequestException:
            raise
        except ValueError as error:  # raw from `urljoin`, which requests calls too
            raise DownloadError(f"redirected to an address that is not valid ({error})") from error
        if url.startswith("https:") and not target.startswith("https:"):
            raise DownloadError(f"redirected away from https, to {target}")
        url = target
    raise DownloadError(f"redirected more than {MAX_REDIRECTS} times")


def _check(part: Path, sha256: str | None) -> None:
    """Delete what is not the file that was asked for."""
    content = part.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    try:
        if not content.startswith(b"\x1f\x8b"):
            raise DownloadError(f"not a gzip file, it begins with {content[:20]!r}")
        if sha256 not in (None, digest):
            raise DownloadError(f"its SHA-256 is {digest}, expected {sha256}")
        if sha256 is None:
            idx.read_images(part) if "images" in part.name else idx.read_labels(part)
    except (idx.DataError, DownloadError) as error:
        part.unlink()
        raise DownloadError(str(error).removesuffix(f"; {idx.ADVICE}")) from error


def _summary(error: Exception) -> str:
    """Describe a network error in one line; requests and urllib3 wrap its cause in several layers of text."""
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
