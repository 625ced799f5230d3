"""The standard small data sets, read from their official files: MNIST, Fashion-MNIST, CIFAR-10.

MNIST: LeCun, Bottou, Bengio & Haffner 1998, 'Gradient-based learning applied to document recognition'.
Fashion-MNIST: Xiao, Rasul & Vollgraf 2017 (arXiv:1708.07747). CIFAR-10: Krizhevsky 2009, 'Learning multiple layers
of features from tiny images'. No pickle is executed: of CIFAR-10 the binary version is preferred, and the Python
version is read by an unpickler that knows numpy arrays and nothing else.

The validation split is the last 10,000 training pictures. A directory may also hold a part of a data set as one
`.npz` (`images`, `labels`, `class_names`); then every sixth picture is for validation, and there is no test split.
"""

from __future__ import annotations

import enum
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from huggingvis.core.errors import FileProblem, UsageError, unknown
from huggingvis.data import cifar_files, idx_files
from huggingvis.data.download import Download, RemoteFile
from huggingvis.data.imageset import ImageSet

_HELD_OUT = 10_000


class Split(enum.Enum):
    """Which pictures of a data set: `TRAIN` never overlaps `VALIDATION`; `TEST` is the official test set."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


Arrays = tuple[np.ndarray, np.ndarray]  # uint8 [N, H, W, C], int64 [N]


@dataclass(frozen=True)
class StandardSet:
    """A data set: its files with their published sums, and the function that reads them once found.

    `train` and `test` are alternatives in order of preference; of each alternative all files are needed. The first
    is what gets downloaded.
    """

    name: str
    classes: tuple[str, ...]
    train: tuple[tuple[RemoteFile, ...], ...]
    test: tuple[tuple[RemoteFile, ...], ...]
    read_train: Callable[[list[Path]], Arrays]
    read_test: Callable[[list[Path]], Arrays]
    folders: tuple[str, ...]

    def load(self, root: Path | str, split: Split = Split.TRAIN, download: Download | None = None) -> ImageSet:
        """Read `split` from the directory `root`; files not found there are fetched into it if `download` is given.

        Raises `FileProblem` naming what is missing or damaged, `UsageError` for the test split of a partial file.
        """
        root = Path(root)
        found = self._found(root, split)
        if found:
            return self._from_files(found, split)
        alternatives, places = self._alternatives(split), self._places(root)
        partial = next((path for place in places for path in sorted(place.glob(f"{self.name}*.npz"))), None)
        if partial is not None and download is None:
            return self._from_partial(partial, split)
        if download is None:
            raise self._missing(root, alternatives)
        found = [_find(file.name, places) or download.fetch(file, root) for file in alternatives[0]]
        return self._from_files(found, split)

    def lies_in(self, root: Path | str, split: Split) -> bool:
        """Whether the official files of `split` are in the directory `root`."""
        return bool(self._found(Path(root), split))

    def names(self, split: Split) -> tuple[str, ...]:
        """The official files of `split`."""
        return tuple(file.name for file in self._alternatives(split)[0])

    def _found(self, root: Path, split: Split) -> list[Path]:
        """The files of the first alternative that is complete; none where none is."""
        for files in self._alternatives(split):
            paths = [_find(file.name, self._places(root)) for file in files]
            if all(paths):
                return [path for path in paths if path is not None]
        return []

    def _alternatives(self, split: Split) -> tuple[tuple[RemoteFile, ...], ...]:
        return self.test if split is Split.TEST else self.train

    def _places(self, root: Path) -> list[Path]:
        return [root, *(root / folder for folder in self.folders)]

    def _from_files(self, paths: list[Path], split: Split) -> ImageSet:
        if split is Split.TEST:
            images, labels = self.read_test(paths)
            return self._set(images, labels, split, paths[0])
        images, labels = self.read_train(paths)
        if len(images) <= _HELD_OUT:
            raise FileProblem(
                f"{paths[0]} holds {len(images):,} pictures; the official training set of {self.name} has more than "
                f"{_HELD_OUT:,}, of which the last {_HELD_OUT:,} are for validation. Fetch the official file again."
            )
        part = slice(-_HELD_OUT, None) if split is Split.VALIDATION else slice(None, -_HELD_OUT)
        return self._set(images[part], labels[part], split, paths[0])

    def _from_partial(self, path: Path, split: Split) -> ImageSet:
        if split is Split.TEST:
            raise UsageError(
                f"{path} is a part of the training set of {self.name}; there is no test set in it. "
                "Ask for the train or validation split, or download the official files."
            )
        images, labels = _read_npz(path)
        held_out = np.arange(len(images)) % 6 == 5
        chosen = held_out if split is Split.VALIDATION else ~held_out
        return self._set(images[chosen], labels[chosen], split, path)

    def _set(self, images: np.ndarray, labels: np.ndarray, split: Split, path: Path) -> ImageSet:
        if len(images) != len(labels):
            raise FileProblem(
                f"{path} holds {len(images):,} pictures and there are {len(labels):,} labels for them; "
                "the files are not of one set. Fetch the official files again."
            )
        if len(labels) and (labels.min() < 0 or labels.max() >= len(self.classes)):
            raise FileProblem(
                f"{path} goes with labels from {labels.min()} to {labels.max()}, but {self.name} has "
                f"{len(self.classes)} classes, numbered from 0. Fetch the official files again."
            )
        return ImageSet(images, labels, None, self.classes, f"{self.name} {split.value}")

    def _missing(self, root: Path, alternatives: tuple[tuple[RemoteFile, ...], ...]) -> FileProblem:
        wanted = ", ".join(f"{file.name} (MD5 {file.md5}, from {file.mirrors[0]})" for file in alternatives[0])
        return FileProblem(
            f"{root} does not hold the official files of {self.name}. Expected {wanted}, packed or unpacked. "
            "Put them there by hand, or allow the download."
        )


def _find(name: str, places: list[Path]) -> Path | None:
    """The file as published, unpacked (`.gz` dropped, or the folder of a `.tar.gz`), or with `-idx` as `.idx`."""
    plain = name.removesuffix(".gz")
    names = [name, plain, plain.replace("-idx", ".idx"), cifar_files.UNPACKED.get(name, name)]
    return next((place / n for place in places for n in names if (place / n).exists()), None)


def _read_npz(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise FileProblem(
            f"{path} is not a readable .npz with the arrays `images` and `labels` ({error}). "
            "Replace it by an intact copy, or remove it."
        ) from error
    if images.ndim == 3:
        images = images[..., None]  # [N, H, W, 1]
    if images.ndim != 4 or images.dtype != np.uint8 or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise FileProblem(
            f"{path}: expected `images` uint8 [N, H, W] or [N, H, W, C] and whole-number `labels` [N]; found "
            f"{images.dtype} {list(images.shape)} and {labels.dtype} {list(labels.shape)}. Rewrite the file so."
        )
    return images, labels.astype(np.int64)


def _idx_set(
    name: str, classes: tuple[str, ...], sums: tuple[tuple[int, str], ...], mirrors: tuple[str, ...], folder: str
) -> StandardSet:
    names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    files = [RemoteFile(n, length, md5, mirrors) for n, (length, md5) in zip(names, sums, strict=True)]
    return StandardSet(
        name=name,
        classes=classes,
        train=(tuple(files[:2]),),
        test=(tuple(files[2:]),),
        read_train=idx_files.read_pair,
        read_test=idx_files.read_pair,
        folders=("raw", name, f"{folder}/raw", folder),
    )


MNIST = _idx_set(
    "mnist",
    tuple("0123456789"),
    (
        (9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        (28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
        (1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
        (4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
    ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
    "MNIST",
)

FASHION_MNIST = _idx_set(
    "fashion_mnist",
    (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    (
        (26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        (29_515, "25c81989df183df01b3e8a0aad5dffbe"),
        (4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
        (5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
    ),
    (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    ),
    "FashionMNIST",
)

_CIFAR_FILES = tuple(
    (RemoteFile(name, length, md5, ("https://www.cs.toronto.edu/~kriz",)),)
    for name, length, md5 in (
        ("cifar-10-binary.tar.gz", 170_052_171, "c32a1d4ab5d03f1284b67883e8d87530"),
        ("cifar-10-python.tar.gz", 170_498_071, "c58f30108f718f92721af3b95e74349a"),
    )
)

CIFAR10 = StandardSet(
    name="cifar10",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    train=_CIFAR_FILES,
    test=_CIFAR_FILES,
    read_train=cifar_files.read_train,
    read_test=cifar_files.read_test,
    folders=("raw", "cifar10", "CIFAR10"),
)

STANDARD_SETS = {known.name: known for known in (MNIST, FASHION_MNIST, CIFAR10)}


def standard_set(name: str) -> StandardSet:
    """The data set called `name` (`mnist`, `fashion_mnist`, `cifar10`; case, `-` and `_` do not matter)."""
    plain = name.lower().replace("-", "_")
    if plain not in STANDARD_SETS:
        raise unknown("standard data set", name, STANDARD_SETS)
    return STANDARD_SETS[plain]
