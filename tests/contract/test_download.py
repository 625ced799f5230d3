"""Downloads are verified or leave nothing, from a real server; the cache returns what was put."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import os
import socket
import struct
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.data.cache import ArrayCache, recipe_key
from huggingvis.data.download import Download, RemoteFile
from huggingvis.data.standard import MNIST, Split


def write_idx(path: Path, values: np.ndarray, magic: int) -> None:
    data = struct.pack(f">I{values.ndim}I", magic, *values.shape) + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A real HTTP server over tmp_path/site; `/short/` announces the whole length and sends half."""
    monkeypatch.setenv("no_proxy", "*")
    site = tmp_path / "site"
    site.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if not self.path.startswith("/short/"):
                return super().do_GET()
            data = (site / Path(self.path).name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=site)) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield site, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def remote(data: bytes, *mirrors: str) -> RemoteFile:
    return RemoteFile("digits.gz", len(data), hashlib.md5(data).hexdigest(), mirrors)


def test_download_verifies_reports_progress_and_falls_back_to_the_next_mirror(tmp_path, server):
    site, url = server
    data = os.urandom(600_000)
    (site / "digits.gz").write_bytes(data)
    (site / "other").mkdir()
    (site / "other" / "digits.gz").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    seen: list[tuple[str, int, int]] = []
    download = Download(lambda *told: seen.append(told), mirrors=(f"{url}/none", f"{url}/short", f"{url}/other"))
    target = download.fetch(remote(data, f"{url}/"), tmp_path / "new" / "folder")
    assert target.read_bytes() == data
    assert seen[-1] == ("digits.gz", 600_000, 600_000)
    assert os.listdir(target.parent) == ["digits.gz"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("short", "the answer stopped after 1,000 of 2,000 bytes"),
        ("wrong", "where [0-9a-f]{32} was expected"),
        ("long", "longer than 2,000 bytes"),
        ("none", "404"),
    ],
)
def test_a_bad_download_leaves_nothing_and_names_file_sum_and_place(tmp_path, server, place, message):
    site, url = server
    data = os.urandom(2000)
    (site / "digits.gz").write_bytes(data)
    for folder, content in (("wrong", bytes(2000)), ("long", data + data)):
        (site / folder).mkdir()
        (site / folder / "digits.gz").write_bytes(content)
    file = remote(data, f"{url}/{place}")
    old = tmp_path / "root"
    with pytest.raises(FileProblem, match=message) as caught:
        Download().fetch(file, old)
    assert file.md5 in str(caught.value) and str(old / "digits.gz") in str(caught.value)
    assert not old.exists()


def test_offline_the_message_says_what_to_do(tmp_path):
    with socket.socket() as held:  # a bound port that does not listen refuses every connection
        held.bind(("127.0.0.1", 0))
        file = remote(b"x" * 10, f"http://127.0.0.1:{held.getsockname()[1]}")
        with pytest.raises(FileProblem, match="Connection refused.*put the file by hand at"):
            Download().fetch(file, tmp_path)


def test_a_set_downloads_what_it_lacks(tmp_path, server):
    site, url = server
    root = tmp_path / "root"
    root.mkdir()
    write_idx(root / "t10k-images-idx3-ubyte.gz", np.zeros((1, 28, 28)), 2051)
    write_idx(site / "t10k-labels-idx1-ubyte.gz", np.array([3]), 2049)
    broken = Download(mirrors=(url,), timeout=2.0)
    images, labels = MNIST.test[0]
    published = (site / labels.name).read_bytes()
    small = RemoteFile(labels.name, len(published), hashlib.md5(published).hexdigest(), (url,))
    test = replace(MNIST, test=((images, small),)).load(root, Split.TEST, broken)
    assert test.labels.tolist() == [3] and (root / labels.name).exists()


def test_cache_returns_what_was_put_and_survives_damage(tmp_path):
    cache = ArrayCache(tmp_path / "cache")
    recipe = {"files": ["a", "b"], "size": 64}
    assert cache.get(recipe) is None and cache.entries() == ()
    assert recipe_key(recipe) == recipe_key({"size": 64, "files": ["a", "b"]}) != recipe_key({"size": 65})
    latents = np.random.default_rng(0).standard_normal((5, 4, 8, 8)).astype(np.float32)
    made = []

    def make():
        made.append(1)
        return {"latents": latents, "empty": np.zeros((0, 3))}

    for _ in range(2):
        stored = cache.get_or_make(recipe, make)
        assert np.array_equal(stored["latents"], latents) and stored["empty"].shape == (0, 3)
    assert made == [1]
    (entry,) = cache.entries()
    assert entry.recipe == recipe and entry.bytes > latents.nbytes
    array = tmp_path / "cache" / entry.key / "latents.npy"
    array.write_bytes(array.read_bytes()[:1000])
    assert np.array_equal(cache.get_or_make(recipe, make)["latents"], latents) and made == [1, 1]
    assert cache.remove(entry.key) == entry.bytes and os.listdir(tmp_path / "cache") == []
    with pytest.raises(UsageError, match="no entry"):
        cache.remove(entry.key)
    with pytest.raises(UsageError, match="JSON values"):
        cache.put({"x": float("nan")}, {})
    with pytest.raises(UsageError, match="plain arrays"):
        cache.put({}, {"../x": np.zeros(1)})
    cache.put({"n": 1}, {"a": np.zeros(3)})
    (tmp_path / "cache" / ".left.tmp").mkdir()
    assert cache.clear() > 24 and os.listdir(tmp_path / "cache") == []
