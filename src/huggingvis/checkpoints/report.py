"""What there is to say of a file or folder: what it is, for which base, and all that it tells of its making.

    report = report_of("downloads/style.safetensors")
    report.summary                         # the sentences a person reads first
    misfit(report, BASES["sdxl"])          # why it cannot be used with that model, or None

Only headers and settings are read, so nothing is allocated: an adapter for another base is refused here.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, final

from huggingvis.checkpoints.bases import Base
from huggingvis.checkpoints.file_hashes import USUAL
from huggingvis.checkpoints.formats import TensorFact
from huggingvis.checkpoints.kinds import Kind, Subject, Told, kind_of
from huggingvis.checkpoints.training_notes import licence, notes, plain, triggers
from huggingvis.core.errors import FileProblem


@final
class Report:
    """All that is told of one file or folder, read from it when it is asked for."""

    def __init__(self, subject: Subject, kind: Kind):
        self.subject, self.kind = subject, kind

    @property
    def path(self) -> Path:
        return self.subject.path

    @cached_property
    def told(self) -> Told:
        """Raises `FileProblem` for what is damaged."""
        try:
            return self.kind.tell(self.subject)
        except (LookupError, ValueError, TypeError, ArithmeticError) as error:
            raise FileProblem(
                f"{self.path} begins like {self.kind.title}, but its names, shapes or settings make none "
                f"({type(error).__name__}: {plain(error, 80)}). It is damaged or made up: get it again."
            ) from error

    @property
    def title(self) -> str:
        return self.told.title or self.kind.title

    @property
    def summary(self) -> str:
        """One paragraph."""
        base = self.told.base
        made = f" for {base}" if base and self.kind.adapter else ""
        return " ".join((f"{self.path.name} is {self.title}{made}.", *self.told.sentences))

    @cached_property
    def said(self) -> dict[str, Any]:
        """What its maker wrote into it, sorted: trigger words, licence, and of the training what people ask first."""
        metadata = self.subject.metadata
        words = triggers(metadata)
        own = list(dict.fromkeys([*self.told.triggers, *words.phrases]))
        return {
            "triggers": own,
            "tags": words.tags,
            "licence": licence(metadata, self._card),
            "training": notes(metadata),
        }

    @property
    def _card(self) -> Path | None:
        """The folder whose card speaks of this: its own, or the one of the repository that a hub's file is in."""
        if self.subject.is_folder:
            return self.path
        return self.path.parent if self.path.parent.parent.name == "snapshots" else None

    def as_json(self) -> dict[str, Any]:
        """Everything but hashes, in JSON values."""
        told, subject, base = self.told, self.subject, self.told.base
        out: dict[str, Any] = {"path": str(self.path), "kind": self.kind.name, "title": self.title}
        out |= {"summary": self.summary, "base": None if base is None else base.name}
        if subject.format is not None:
            out |= {"format": subject.format.value, "bytes": subject.size, **counted(subject.tensors)}
        return {**out, **told.facts, **self.said, "metadata": dict(subject.metadata)}


def counted(tensors: Mapping[str, TensorFact]) -> dict[str, Any]:
    """How many tensors and numbers there are, and of which types, the most frequent first."""
    count: dict[str, int] = {}
    for fact in tensors.values():
        count[fact.dtype] = count.get(fact.dtype, 0) + fact.numel
    dtypes = dict(sorted(count.items(), key=lambda item: -item[1]))
    return {"tensors": len(tensors), "numbers": sum(count.values()), "dtypes": dtypes}


def report_of(what: Path | str | Subject) -> Report:
    """The report of a file or folder. Raises `FileProblem` for what is missing, damaged or cannot be read."""
    subject = what if isinstance(what, Subject) else Subject(what)
    return Report(subject, kind_of(subject))


def misfit(report: Report, base: Base) -> str | None:
    """Why a file cannot be used with `base`, in a paragraph; None where it can, or where only its layers can tell."""
    told, name = report.told, report.path.name
    if not report.kind.adapter:
        return (
            f"{name} is {report.title}, not something that is put on a model. Use it as the model, or as the part of "
            "one, that it is."
        )
    if told.refused:
        return f"{name} is {report.title}. {told.refused}"
    if told.base is None or base.takes(told.base) is not False:
        return None
    return (
        f"{name} is {report.title} for {told.base}, but the model is {base}: it has layers of other sizes. Use it "
        f"with the base that it was made for, or get a version for {base.name}."
    )


def hashes(report: Report) -> dict[str, str]:
    """What others call the file by: one pass through it, if it is not known from before (`checkpoints.file_hashes`).

    `sha256` of the file, and its first 10 digits, by which A1111 calls checkpoints (12 for embeddings). LoRAs in
    safetensors it calls by 12 digits of the hash of the bytes after the header, `addnet`, so that new metadata does not
    change it; kohya's trainers write that into the file. `a1111` is the one of these that A1111 shows.
    """
    told = USUAL.of(report.path)
    found = {"sha256": told.sha256} | ({"addnet": told.addnet} if told.addnet else {})
    digits = 12 if report.kind.adapter else 10
    known = report.subject.metadata.get("sshs_model_hash") or found.get("addnet") or ""
    shown = known if report.kind.name == "lora" and known else found["sha256"]
    return {**found, "short": found["sha256"][:10], "a1111": plain(shown)[:digits]}


def listed(words: Iterable[str], most: int = 6) -> str:
    """A list in a sentence: at most so many, then how many more there are."""
    words = list(words)
    rest = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + rest
