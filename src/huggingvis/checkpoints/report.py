"""What there is to say of a file or folder: what it is, for which base, and all that it tells of its making.

    report = report_of("downloads/style.safetensors")
    report.summary                         # the sentences a person reads first
    misfit(report, BASES["sdxl"])          # why it cannot be used with that model, or None

Only headers and settings are read, so nothing is allocated: an adapter for another base is refused here.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from huggingvis.checkpoints.file_hashes import USUAL
from huggingvis.checkpoints.formats import TensorFact
from huggingvis.checkpoints.lora_formats_bases import WIDTHS
from huggingvis.checkpoints.single_file_family import FAMILY
from huggingvis.checkpoints.training_notes import licence, notes, plain, triggers
from huggingvis.core.errors import FileProblem

if TYPE_CHECKING:
    from huggingvis.checkpoints.kinds import Kind, Subject


@final
@dataclass(frozen=True)
class Base:
    """A model that adapters are made for.

    Attributes:
        name: what people call it.
        tokens: the widths of text tokens that its U-Net may read; empty where nothing tells.
        foreign: a family whose adapters fit nothing here.
    """

    name: str
    tokens: tuple[int, ...] = ()
    foreign: bool = False

    def __str__(self) -> str:
        wide = f" (text tokens {' or '.join(map(str, self.tokens))} wide)" if self.tokens else ""
        return self.name + wide

    def takes(self, other: Base) -> bool | None:
        """Whether what was made for `other` fits; None where nothing tells."""
        if other.foreign:
            return False
        return bool({*self.tokens} & {*other.tokens}) if self.tokens and other.tokens else None


def base_of(tokens: int, vector: int | None = None) -> Base:
    """The base whose U-Net reads text tokens of this width, beside a vector of that one where it is known."""
    rows = [row for row in FAMILY if row.tokens_dim == tokens and vector in (None, row.vector_dim) and not row.marker]
    if vector is None or len(rows) != 1:
        return Base(WIDTHS.get(tokens, "a model"), (tokens,))
    return Base(rows[0].name, (tokens,))


BASES: Mapping[str, Base] = {
    "sd1": base_of(768), "sd2": base_of(1024), "sdxl": base_of(2048), "refiner": base_of(1280, 2560),
}  # fmt: skip
"""What people call the bases in one word."""
_SPELLED = {"sd14": "sd1", "sd15": "sd1", "sd20": "sd2", "sd21": "sd2", "xl": "sdxl", "sdxl10": "sdxl",
            "sdxlrefiner": "refiner"}  # fmt: skip


def named_base(word: str) -> Base | None:
    """The base that a word is for, in any common spelling, as SD 1.5 or stable-diffusion-v1-5; None for none."""
    key = re.sub(r"[\s._-]|v(?=\d)", "", word.lower()).replace("stablediffusion", "sd")
    return BASES.get(_SPELLED.get(key, key))


@final
@dataclass(frozen=True)
class Told:
    """What a kind knows of a file.

    Attributes:
        title: what it is, with its article; empty: the kind's own.
        base: of an adapter the base it was made for, of a model what it is itself.
        sentences: for a person, each one whole.
        facts: further facts by name, in JSON values; the first are the more important.
        triggers: words that call it in a prompt.
        refused: why it cannot be used here at all.
    """

    title: str = ""
    base: Base | None = None
    sentences: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    triggers: tuple[str, ...] = ()
    refused: str = ""


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
    from huggingvis.checkpoints.kinds import Subject, kind_of

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
