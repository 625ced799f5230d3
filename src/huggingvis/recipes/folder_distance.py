"""How far two folders of pictures are apart: FID and KID with a given Inception file.

M. Heusel et al. 2017, arXiv 1706.08500 (FID); M. Bińkowski et al. 2018, arXiv 1801.01401 (KID). Pictures are read as
pytorch-fid reads them: the pixels as they are stored, stretched to 299 x 299 without antialiasing. Book: chapter 9.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from huggingvis.checkpoints.inspect import sha256
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.data.decode import Unreadable, as_stored, quiet_decoding
from huggingvis.data.listing import list_folder
from huggingvis.metrics.features import Features, as_features
from huggingvis.metrics.frechet import Moments, frechet, frechet_moments
from huggingvis.metrics.kid import kid_interval
from huggingvis.nets.inception import DIM, fitted
from huggingvis.recipes.evaluation import Evaluation, Subject, Tick
from huggingvis.systems.judges import inception

CHUNK = 50
KEPT = 5000
"""Pictures of a folder whose features are kept, for KID: their kernels take 8 KEPT^2 bytes."""
USUAL = 50_000
"""Pictures that published distances are mostly of."""


@dataclass(frozen=True)
class Looked:
    """What was seen of a folder: the moments of all features, and the features [K, D] of evenly spaced pictures."""

    moments: Moments
    features: Tensor


@final
@dataclass(frozen=True)
class FolderDistance:
    """The subject, a folder of pictures, against another.

    Attributes:
        against: the other folder.
        inception: file of the network's weights.
        seed: of KID's interval.
    """

    against: Path
    inception: Path | None
    seed: int = 0

    def __call__(self, subject: Subject) -> Evaluation:
        if self.inception is None:
            raise UsageError(
                "FID is a distance between features of one certain network, which is not part of this package. Give "
                f"--inception FILE: {inception.WHERE_FROM}."
            )
        folders = [Path(str(subject.name)), self.against]
        files = [_pictures_in(folder) for folder in folders]
        net = inception.bind(self.inception, subject.device)
        with subject.progress("looking", sum(map(len, files))) as tick:
            a = look(files[0], net, subject.device, tick)
            b = look(files[1], net, subject.device, lambda done: tick(len(files[0]) + done))
        whole = len(a.features) == a.moments.n and len(b.features) == b.moments.n
        fid = frechet(a.features, b.features) if whole else frechet_moments(a.moments, b.moments)
        kid = kid_interval(a.features, b.features, seed=self.seed)
        digest = sha256(self.inception)
        record = {
            "folders": [{"path": str(folder), "n": len(found)} for folder, found in zip(folders, files, strict=True)],
            "inception": {"file": self.inception.name, "sha256": digest},
            "fid": fid,
            "kid": {"value": kid.value, "low": kid.low, "high": kid.high, "n": kid.n},
        }
        text = (
            f"{folders[0]} ({len(files[0]):,} pictures) against {folders[1]} ({len(files[1]):,})\n"
            f"FID {fid:.6g}\nKID {kid.value:.4g} [{kid.low:.4g}, {kid.high:.4g}], 95 % confidence, by {kid.n:,} of each"
        )
        return Evaluation(record, text, tuple(notes(len(files[0]), len(files[1]), digest)))


def look(files: Sequence[Path], extract: Features, device: torch.device, tick: Tick, kept: int = KEPT) -> Looked:
    """The features of all pictures in `files`; those of `kept` are kept. Raises `FileProblem` naming a damaged one."""
    moments: Moments | None = None
    parts: list[Tensor] = []
    done = 0
    count = min(kept, len(files))
    chosen = torch.zeros(len(files), dtype=torch.bool)
    chosen[torch.arange(count) * len(files) // count] = True
    for x in _batches(files):
        with torch.no_grad():
            features = as_features(extract(x.to(device)))  # [B, D]
        moments = Moments.of(features) if moments is None else moments.add(features)
        parts.append(features[chosen[done : done + len(x)]])
        done += len(x)
        tick(done)
    assert moments is not None  # there are two files at least
    return Looked(moments, torch.cat(parts))


def _pictures_in(folder: Path) -> list[Path]:
    """Its picture files: those in the folder itself, or else those of its class sub-folders. At least two."""
    listing = list_folder(folder, recursive=False)
    for path, reason in listing.missing:
        raise FileProblem(f"{path}: {reason}. Correct the folder's metadata.")
    if len(listing.items) < 2:
        raise UsageError(
            f"{folder} holds one picture. Two folders of at least 2 pictures can be compared, and thousands are usual."
        )
    return [item.path for item in listing.items]


def _batches(files: Sequence[Path]) -> Iterator[Tensor]:
    """[B, 3, 299, 299] in [-1, 1]; pictures may be of different sizes."""

    def ready(path: Path) -> Tensor:
        try:
            x = torch.from_numpy(as_stored(path).transpose(2, 0, 1).astype(np.float32) / 127.5 - 1)  # [3, H, W]
        except Unreadable as error:
            raise FileProblem(f"{path} cannot be measured: {error}. Repair or remove it.") from error
        return fitted(x[None])[0]

    with quiet_decoding(), ThreadPoolExecutor() as pool:
        for start in range(0, len(files), CHUNK):
            yield torch.stack(list(pool.map(ready, files[start : start + CHUNK])))


def notes(n: int, m: int, digest: str) -> Iterator[str]:
    """How far FID of `n` against `m` pictures reaches, by an Inception file with the SHA-256 `digest`."""
    yield (
        f"FID of finite sets is too high, by an amount that falls as 1 / n: compare this one only with FIDs of {n:,} "
        f"against {m:,} pictures (published ones mostly have {USUAL:,}). KID has no such bias."
    )
    if n != m:
        yield f"The folders hold {n:,} and {m:,} pictures; published distances are of equal numbers."
    if min(n, m) <= DIM:
        yield f"So few pictures leave the covariance of {DIM:,} features singular: FID says little, trust KID."
    if digest != inception.SHA256:
        yield (
            f"The SHA-256 of the Inception file begins with {digest[:8]}, that of {inception.FILE} with "
            f"{inception.SHA256[:8]}: unless it is a conversion of that file, these distances compare with none that "
            "are published."
        )
