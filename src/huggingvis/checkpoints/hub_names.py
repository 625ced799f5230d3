"""How a model at a hub is spelled, and what a hub says of its files.

    owner/name                        the model, on the Hugging Face hub or the mirror that HF_ENDPOINT names
    owner/name@revision               a branch, a tag or a commit of it
    owner/name:file.safetensors       one file of it, or one folder (`owner/name:vae`)
    modelscope:owner/name             the same from ModelScope; `hf:` names the Hugging Face hub
    https://huggingface.co/owner/name/blob/main/file.safetensors      as copied from a browser

Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, final
from urllib.parse import unquote, urlsplit

HUGGING_FACE, MODELSCOPE = "hf", "modelscope"
_HOSTS = {
    "huggingface.co": HUGGING_FACE, "hf.co": HUGGING_FACE, "hf-mirror.com": HUGGING_FACE,
    "modelscope.cn": MODELSCOPE, "modelscope.ai": MODELSCOPE,
}  # fmt: skip
_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_WORD = r"[A-Za-z0-9](?:[\w.-]*\w)?"
_SPELLING = re.compile(
    rf"(?:(?P<source>{HUGGING_FACE}|{MODELSCOPE}):)?(?P<repo>{_WORD}/{_WORD})"
    r"(?:@(?P<revision>[^\s:]+))?(?::(?P<file>[^\s:][^:]*))?",
    re.ASCII,
)
_PAGE = re.compile(
    r"/(?:models/)?(?P<repo>[^/]+/[^/]+)(?:/(?:blob|resolve|tree)/(?P<revision>[^/]+)(?:/(?P<file>.+))?)?"
)


@final
@dataclass(frozen=True)
class Remote:
    """A model at a hub, or one file or folder of it. `plain`: said as `owner/name`, which may be a path as well."""

    source: str
    repo: str
    revision: str | None = None
    file: str | None = None
    plain: bool = False

    def __str__(self) -> str:
        """The spelling that is read as this again."""
        prefix = "" if self.source == HUGGING_FACE else f"{self.source}:"
        at = f"@{self.revision}" if self.revision else ""
        return f"{prefix}{self.repo}{at}" + (f":{self.file}" if self.file else "")


def remote(name: str) -> Remote | None:
    """What `name` spells, or None where it is no spelling of a model at a hub."""
    if name.startswith(("https://", "http://")):
        return _of_page(name)
    found = _SPELLING.fullmatch(name)
    if found is None or ".." in name or "--" in found["repo"]:
        return None
    plain = not (found["source"] or found["revision"] or found["file"])
    if plain and found["repo"].lower().endswith(_FILES):
        return None  # folder/model.safetensors is a file here, or was meant to be one
    file = found["file"].strip("/") if found["file"] else None
    return Remote(found["source"] or HUGGING_FACE, found["repo"], found["revision"], file, plain)


def _of_page(url: str) -> Remote | None:
    try:
        address = urlsplit(url)
    except ValueError:  # of brackets that are no host
        return None
    source = _HOSTS.get((address.hostname or "").removeprefix("www."))
    found = _PAGE.fullmatch(unquote(address.path).rstrip("/"))
    if source is None or found is None or not re.fullmatch(rf"{_WORD}/{_WORD}", found["repo"], re.ASCII):
        return None
    return Remote(source, found["repo"], found["revision"], found["file"])


@final
@dataclass(frozen=True)
class HubFile:
    """What a hub says of one file: bytes, and its SHA-256 or (small files of git) its git blob id, each where known."""

    size: int
    sha256: str | None = None
    git: str | None = None

    @property
    def key(self) -> str | None:
        """What its content is stored under."""
        return self.sha256 or self.git


@final
@dataclass(frozen=True)
class Listing:
    """One commit of a model and its files by their path."""

    commit: str
    files: Mapping[str, HubFile]


class Source(Protocol):
    """A hub: how it lists a model and where its files are.

    `title` is its name for people, `branch` the revision that is meant where none is said, `cache` its cache folder;
    `elsewhere` says in a few words how to reach the same models another way.
    """

    title: str
    branch: str
    cache: str
    elsewhere: str

    def listing(self, remote: Remote, timeout: float) -> Listing:
        """The newest commit of the asked revision. Raises what the client raises."""
        ...

    def address(self, remote: Remote, commit: str, path: str) -> tuple[str, dict[str, str]]:
        """Where the file `path` is, and the headers to ask for it with."""
        ...

    def page(self, remote: Remote) -> str:
        """The model's page for people."""
        ...

    def alike(self, remote: Remote, timeout: float) -> list[str]:
        """Names of models there that could have been meant."""
        ...

    def permission(self) -> str:
        """What a user does who may not have a model: the end of a sentence, with its full stop."""
        ...
