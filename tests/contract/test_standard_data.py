"""The standard data sets: official files, partial files, damaged ones, and the download from a real local server."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import os
import pickle
import socket
import struct
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.data import idx_files
from huggingvis.data.cache import ArrayCache, recipe_key
from huggingvis.data.download import Download, RemoteFile
from huggingvis.data.imageset import ImageSet
from huggingvis.data.standard import CIFAR10, FASHION_MNIST, MNIST, Split, standard_set

TESTDATA = os.environ.get("HUGGINGVIS_TESTDATA")
needs_data = pytest.mark.skipif(TESTDATA is None, reason="HUGGINGVIS_TESTDATA is not set: real files not at hand")


def images_of(name: str) -> Path:
    return Path(TESTDATA or "") / "images" / name


def write_idx(path: Path, values: np.ndarray, magic: int) -> None:
    data = struct.pack(f">I{values.ndim}I", magic, *values.shape) + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)


@needs_data
def test_real_mnist_has_the_published_beginning_and_the_validation_split_at_its_end():
    train = MNIST.load(images_of("mnist"))
    validation = MNIST.load(images_of("mnist"), Split.VALIDATION)
    assert train.images.shape == (50_000, 28, 28, 1) and validation.images.shape == (10_000, 28, 28, 1)
    assert train.labels is not None and validation.labels is not None
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    counts = np.bincount(np.concatenate([train.labels, validation.labels]))
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    everything = hashlib.md5(struct.pack(">4I", 2051, 60_000, 28, 28))
    everything.update(train.images.tobytes())
    everything.update(validation.images.tobytes())
    assert everything.hexdigest() == "6bbc9ace898e44ae57da46a324031adb"  # of the official file, unpacked
    with pytest.raises(FileProblem, match=r"t10k-images-idx3-ubyte.gz \(MD5 9fb629c4189551a2d022fa330f9573f3"):
        MNIST.load(images_of("mnist"), Split.TEST)


@needs_data
@pytest.mark.parametrize(
    ("known", "train", "validation"),
    [(FASHION_MNIST, (600, 28, 28, 1), (120, 28, 28, 1)), (CIFAR10, (3334, 32, 32, 3), (666, 32, 32, 3))],
)
def test_partial_files_split_without_overlap_and_have_no_test_set(known, train, validation):
    root = images_of(known.name)
    first, second = known.load(root), known.load(root, Split.VALIDATION)
    assert (first.images.shape, second.images.shape) == (train, validation)
    assert np.bincount(second.labels, minlength=10).min() >= 12 - 2  # every class is in both parts
    with np.load(next(root.glob("*.npz"))) as arrays:
        assert tuple(arrays["class_names"].tolist()) == known.classes
        whole = arrays["images"].reshape(-1, *train[1:])
    assert np.array_equal(second.images, whole[5::6]) and np.array_equal(first.images[:5], whole[:5])
    with pytest.raises(UsageError, match="no test set"):
        known.load(root, Split.TEST)


def test_idx_is_read_packed_or_not_and_from_the_usual_sub_folders(tmp_path):
    pixels = np.arange(2 * 28 * 28, dtype=np.uint32).reshape(2, 28, 28) % 251
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    write_idx(raw / "t10k-images-idx3-ubyte.gz", pixels, 2051)
    write_idx(raw / "t10k-labels-idx1-ubyte", np.array([7, 3]), 2049)
    test = MNIST.load(tmp_path, Split.TEST)
    assert np.array_equal(test.images[..., 0], pixels) and test.labels.tolist() == [7, 3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (struct.pack(">IIII", 2049, 1, 2, 2) + b"\0" * 4, "begins with the number 2051; it begins with 2049"),
        (struct.pack(">IIII", 2051, 1, 2, 2) + b"\0" * 3, "announces 4 values of shape .1, 2, 2. and holds 3"),
        (struct.pack(">IIII", 2051, 1, 2, 2) + b"\0" * 5, "holds more than 4"),
        (struct.pack(">IIII", 2051, 2**31, 2**31, 9), "damaged"),
        (struct.pack(">II", 2051, 1), "damaged"),
        (gzip.compress(struct.pack(">IIII", 2051, 1, 28, 28) + os.urandom(784))[:400], "damaged or incomplete"),
        (b"", "begins with 0"),
    ],
)
def test_damaged_idx_files_are_refused_by_name(tmp_path, data, message):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(FileProblem, match=message) as caught:
        idx_files.read_idx(path, 2051)
    assert str(path) in str(caught.value)


def test_labels_that_do_not_belong_are_refused(tmp_path):
    write_idx(tmp_path / "t10k-images-idx3-ubyte", np.zeros((2, 28, 28)), 2051)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.array([1, 2, 3]), 2049)
    with pytest.raises(FileProblem, match="2 pictures and there are 3 labels"):
        MNIST.load(tmp_path, Split.TEST)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.array([1, 10]), 2049)
    with pytest.raises(FileProblem, match="from 1 to 10, but mnist has 10 classes"):
        MNIST.load(tmp_path, Split.TEST)


def cifar_planes(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 3072), dtype=np.uint8)


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_cifar_binary_and_python_archives_hold_the_same_pictures(tmp_path):
    planes, labels = cifar_planes(4), [6, 9, 9, 4]
    binary = b"".join(bytes([label]) + row.tobytes() for label, row in zip(labels, planes, strict=True))
    (tmp_path / "b").mkdir()
    (tmp_path / "p").mkdir()
    write_tar(tmp_path / "b" / "cifar-10-binary.tar.gz", {"cifar-10-batches-bin/test_batch.bin": binary})
    batch = pickle.dumps({b"data": planes, b"labels": labels}, protocol=2)
    write_tar(tmp_path / "p" / "cifar-10-python.tar.gz", {"cifar-10-batches-py/test_batch": batch})
    from_binary, from_python = (CIFAR10.load(tmp_path / d, Split.TEST) for d in "bp")
    assert from_binary.images.shape == (4, 32, 32, 3) and from_binary.labels.tolist() == labels
    assert from_binary.images[2, 5, 7].tolist() == planes[2, [5 * 32 + 7 + 1024 * c for c in range(3)]].tolist()
    assert np.array_equal(from_binary.images, from_python.images)
    assert from_python.labels.tolist() == labels
    unpacked = tmp_path / "u" / "cifar-10-batches-bin"
    unpacked.mkdir(parents=True)
    (unpacked / "test_batch.bin").write_bytes(binary)
    assert np.array_equal(CIFAR10.load(tmp_path / "u", Split.TEST).images, from_binary.images)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch /tmp/huggingvis-was-here",)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (pickle.dumps({b"data": Hostile(), b"labels": [0]}, protocol=2), "asks for posix.system"),
        (pickle.dumps({b"data": cifar_planes(2), b"labels": [0]}, protocol=2), "with N labels"),
        (b"not a pickle", "not a CIFAR-10 batch"),
    ],
)
def test_bad_cifar_batches_are_refused_and_run_no_code(tmp_path, batch, message):
    write_tar(tmp_path / "cifar-10-python.tar.gz", {"cifar-10-batches-py/test_batch": batch})
    with pytest.raises(FileProblem, match=message):
        CIFAR10.load(tmp_path, Split.TEST)
    assert not Path("/tmp/huggingvis-was-here").exists()


def test_a_truncated_cifar_archive_and_one_without_its_batch_are_refused(tmp_path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    write_tar(path, {"cifar-10-batches-bin/test_batch.bin": cifar_planes(8).tobytes()})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileProblem, match="damaged or incomplete"):
        CIFAR10.load(tmp_path, Split.TEST)
    write_tar(path, {"elsewhere/readme.html": b"hello"})
    with pytest.raises(FileProblem, match="lacks test_batch"):
        CIFAR10.load(tmp_path, Split.TEST)


def test_unknown_set_suggests_the_nearest_and_image_sets_check_themselves():
    assert standard_set("Fashion-MNIST") is FASHION_MNIST
    with pytest.raises(UsageError, match="'mnist'"):
        standard_set("mnits")
    images = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    with pytest.raises(UsageError, match="2 images and 1 captions"):
        ImageSet(images, captions=("one",))
    with pytest.raises(UsageError, match="2 classes"):
        ImageSet(images, np.array([0, 2]), classes=("a", "b"))
    chosen = ImageSet(images, np.array([0, 1]), ("x", "y"), ("a", "b")).subset([1])
    assert chosen.labels.tolist() == [1] and chosen.captions == ("y",) and len(chosen) == 1


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
