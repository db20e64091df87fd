"""Misbehaving servers: whatever a mirror answers, the next one is tried, and nothing bad is left behind."""

import gzip
import hashlib
import http.server
import os
import ssl
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import trustme

from lenet_lab.data import download as module
from lenet_lab.data import idx
from lenet_lab.data.download import DownloadError, download

pytestmark = pytest.mark.network  # every test talks to a server on loopback

NAME = "train-labels-idx1-ubyte.gz"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A valid label file that gzip can't make small."""
    path = tmp_path_factory.mktemp("good") / NAME
    idx.write(path, np.random.RandomState(0).randint(0, 10, 400_000).astype(np.uint8))
    return path.read_bytes()


class Misbehaving(http.server.BaseHTTPRequestHandler):
    """Answers with the method that the first part of the path names."""

    def do_GET(self):
        self.server.seen.append((self.path, self.headers.get("Range")))
        getattr(self, self.path.split("/")[1])(self.server.content)

    def send(self, body, status=200, length=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def good(self, content):
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        if start >= len(content):
            self.send(b"", 416)
        else:
            self.send(content[start:], 206 if start else 200)

    def never_ranges(self, content):
        self.send(content)

    def half(self, content):
        self.send(content[: len(content) // 2], length=len(content))

    def garbled_half(self, content):
        self.send(bytes(len(content) // 2), length=len(content))

    def stalls(self, content):
        self.send(content[:1000], length=len(content))
        time.sleep(2)

    def trickles(self, content):
        self.send(b"", length=len(content))
        for start in range(100):
            self.wfile.write(content[start : start + 1])
            time.sleep(0.1)

    def forbidden(self, content):
        self.send(b"no", 403)

    def missing(self, content):
        self.send(b"no", 404)

    def unavailable(self, content):
        self.send(b"later", 503)

    def page(self, content):
        self.send(b"<!doctype html><title>Log in</title>")

    def other(self, content):
        self.send(gzip.compress(b"another file"))

    def flipped(self, content):
        self.send(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])

    def endless(self, content):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(1 << 16))

    def loops(self, content):
        self.send(b"", 302, Location=self.path)

    def to_http(self, content):
        self.send(b"", 302, Location=self.server.plain_url + "good/" + NAME)

    def bad_length(self, content):
        self.send(content[:1000], length="many")

    def to_nowhere(self, content):
        self.send(b"", 302, Location="http://[")

    def moved(self, content):
        self.send(b"", 301, Location="/good/" + NAME)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve(content):
    servers = []

    def start(context=None):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
        server.daemon_threads, server.handle_error = True, lambda *arguments: None
        server.content, server.seen = content, []
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        server.url = f"http{'s' if context else ''}://localhost:{server.server_port}/"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(serve):
    return serve()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", (1, 0.5))
    monkeypatch.setattr(module, "TIME_LIMIT", 1)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "answer, message",
    [
        ("half", "broke off"), ("stalls", "no answer in time"), ("trickles", "stopped after 1 seconds"),
        ("forbidden", "403"), ("missing", "404"), ("unavailable", "503"), ("page", "not a gzip file.*doctype"),
        ("other", "SHA-256"), ("flipped", "SHA-256"), ("endless", "stopped after (more than 1000000 bytes|1 seconds)"),
        ("loops", "redirected more than 5 times"), ("to_nowhere", "redirected to an address that is not valid"),
        ("bad_length", "SHA-256"),
    ],
)  # fmt: skip
def test_each_failure_is_reported_and_the_next_mirror_tried(server, content, tmp_path, monkeypatch, answer, message):
    monkeypatch.setattr(module, "MAX_DOWNLOAD_BYTES", 1_000_000)
    started = time.monotonic()
    expected = f"{NAME} could not be downloaded; {server.url}{answer}/{NAME}: .*({message})"
    with pytest.raises(DownloadError, match=expected):
        download(NAME, tmp_path, (server.url + answer,), sha256(content))
    assert not (tmp_path / NAME).exists()
    download(NAME, tmp_path, (server.url + answer, server.url + "good"), sha256(content))
    assert (tmp_path / NAME).read_bytes() == content
    assert time.monotonic() - started < 10
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("answer", ["page", "other", "flipped", "half"])
def test_without_a_checksum_only_a_whole_idx_file_is_accepted(server, content, tmp_path, answer):
    with pytest.raises(DownloadError) as caught:
        download(NAME, tmp_path, (server.url + answer,), None)
    assert "delete it" not in str(caught.value)  # it is deleted already
    assert not (tmp_path / NAME).exists()
    download(NAME, tmp_path, (server.url + "good",), None)
    assert (tmp_path / NAME).read_bytes() == content


def test_an_interrupted_download_continues_where_it_stopped(server, content, tmp_path):
    with pytest.raises(DownloadError, match="broke off"):
        download(NAME, tmp_path, (server.url + "half",), sha256(content))
    download(NAME, tmp_path, (server.url + "good",), sha256(content))
    assert server.seen[-1] == (f"/good/{NAME}", f"bytes={len(content) // 2}-")
    assert (tmp_path / NAME).read_bytes() == content


@pytest.mark.parametrize("first, second", [("half", "never_ranges"), ("garbled_half", "good")])
def test_what_cannot_be_continued_starts_again(server, content, tmp_path, first, second):
    download(NAME, tmp_path, (server.url + first, server.url + second), sha256(content))
    assert (tmp_path / NAME).read_bytes() == content


def test_leftovers_longer_than_the_file_are_deleted(server, content, tmp_path):
    (tmp_path / module.UNFINISHED).mkdir()
    (tmp_path / module.UNFINISHED / NAME).write_bytes(content + b"more")
    download(NAME, tmp_path, (server.url + "good",), sha256(content))
    assert (tmp_path / NAME).read_bytes() == content


def test_a_redirect_is_followed(server, content, tmp_path):
    download(NAME, tmp_path, (server.url + "moved",), sha256(content))
    assert (tmp_path / NAME).read_bytes() == content


def test_certificates_are_checked_and_https_is_not_left(serve, server, content, tmp_path, monkeypatch):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    secure = serve(context)
    secure.plain_url = server.url
    with pytest.raises(DownloadError, match="its certificate is not valid"):
        download(NAME, tmp_path, (secure.url + "good",), sha256(content))
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    with pytest.raises(DownloadError, match=f"redirected away from https, to {server.url}"):
        download(NAME, tmp_path, (secure.url + "to_http",), sha256(content))
    assert server.seen == []
    download(NAME, tmp_path, (secure.url + "good",), sha256(content))
    assert (tmp_path / NAME).read_bytes() == content


TOGETHER = """
import os, sys
from pathlib import Path
from lenet_lab.data.download import download
name, folder, url, sha256 = sys.argv[1:]
for round in range(20):
    os.mkdir(f"{folder}/{round}")
    children = []
    for _ in range(4):
        children.append(os.fork())
        if not children[-1]:
            download(name, Path(folder, str(round)), (url,), sha256)
            os._exit(0)
    assert not any([os.waitpid(child, 0)[1] for child in children])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_processes_that_download_at_the_same_time_all_get_the_file(server, content, tmp_path):
    command = [sys.executable, "-c", TOGETHER, NAME, str(tmp_path), server.url + "good", sha256(content)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    for round in range(20):
        assert [path.name for path in (tmp_path / str(round)).iterdir()] == [NAME]
        assert (tmp_path / str(round) / NAME).read_bytes() == content
    assert len(server.seen) == 20  # once each


def test_a_file_in_the_place_of_the_downloads_folder_is_an_error_and_no_endless_wait(server, content, tmp_path):
    (tmp_path / module.UNFINISHED).touch()
    with pytest.raises(FileExistsError, match=module.UNFINISHED):
        download(NAME, tmp_path, (server.url + "good",), sha256(content))
