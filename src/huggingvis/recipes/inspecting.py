"""What a file, a folder or a model at a hub is, in JSON values. The verb `inspect` is this.

Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingvis.checkpoints.inspect import Family
from huggingvis.checkpoints.kinds import Subject
from huggingvis.checkpoints.report import hashes as hashes_of
from huggingvis.checkpoints.report import report_of
from huggingvis.checkpoints.resolve import WEIGHTS
from huggingvis.core.catalog import ROOT


def inspected(path: str | Path, *, base: str | Path | None = None, hashes: bool = True) -> dict[str, Any]:
    """What a file or folder is, in JSON values: `kind`, `title`, a `summary` for people, and all that it tells.

    `api.inspect` says which. `base`: a model, or `sd1`, `sd2`, `sdxl`, `refiner`.
    Raises `FileProblem` for what is missing or damaged, `UsageError` for an unknown base.
    """
    if not os.path.exists(path) and os.path.isdir(named := ROOT / "weights" / str(path)):
        path = named
    subject, told_sha = _looked_at(path)
    report = report_of(subject)
    kind = {"kind": report.kind.name}
    if report.kind.name in ("own", "folder"):
        from huggingvis.recipes.loading import folder_facts

        found = {**folder_facts(subject.path), **kind} if not subject.settings else report.as_json()
    elif report.kind.name == "picture":
        from huggingvis.export.image import picture_facts

        facts = picture_facts(subject.path)
        found = {**facts, **kind, "notes": [*facts["notes"], *_promises(subject)]}
    else:
        found = report.as_json()
    if base is not None:
        from huggingvis.checkpoints.fitting import fits_on

        found["fits"] = fits_on(report, base)
    if subject.format is not None:
        if subject.is_remote:
            found |= {"sha256": told_sha}
        elif hashes:
            found |= {"hashes": (told := hashes_of(report)), "sha256": told["sha256"]}
        family = _family(subject.tensors) if report.kind.name == "other" else None
        found["family"] = family.name if family else None
        if family is not None:
            title = f"a file of weights of {family.name}, a family of this library"
            found |= {"title": title, "summary": f"{subject.path.name} is {title}: {family.use}."}
    return found


def _promises(subject: Subject) -> list[str]:
    """What a picture's name says against it."""
    ending = subject.path.suffix
    if ending.lower() not in WEIGHTS:
        return []
    return [
        f"It is a {subject.picture} picture, though its name ends in {ending} as that of weights does: a model's "
        "preview under the model's own name, or a download that went wrong. Download the model again."
    ]


def _looked_at(path: str | Path) -> tuple[Subject, str | None]:
    """What is there, or what a hub says of it, with the hash of a file that only the hub has."""
    if not os.path.lexists(path) and isinstance(path, str):
        from huggingvis.checkpoints.hub_names import remote

        what = remote(path)
        if what is not None:
            from huggingvis.checkpoints.hub_look import subject_at
            from huggingvis.checkpoints.resolve import is_path

            if not is_path(what):
                return subject_at(what)
    return Subject(path), None


def _family(tensors: Mapping[str, Any]) -> Family | None:
    """The family of this library that these tensors are of."""
    from huggingvis import systems
    from huggingvis.checkpoints.inspect import family_in

    found = family_in(systems, tensors)
    return found[0] if found else None
