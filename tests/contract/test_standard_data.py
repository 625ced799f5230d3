"""The standard data sets: official files, partial files, damaged ones, and the sets they make."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.data import idx_files
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
