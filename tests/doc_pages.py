"""The documents, and what stands in them: code, links, named files, commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.zh.md")
COMMUNITY = "docs/community-files.md"
PAGES = (*READMES, "CONTRIBUTING.md", "docs/architecture.md", "docs/samplers.md", "docs/prompts.md", COMMUNITY,
         "docs/batches-and-grids.md", "docs/control.md", "docs/from-pictures.md", "docs/large-pictures.md",
         "docs/provenance.md", "docs/models-in-python.md",
         "docs/models/tiny.md", "docs/models/judge-world.md")  # fmt: skip
EXAMPLES = "CONTRIBUTING.md"
SCORED = (*READMES, "docs/models/tiny.md", "docs/models/judge-world.md")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks(page: str, kind: str) -> list[str]:
    return [body for language, body in FENCE.findall(text_of(page)) if language == kind]


def prose(page: str) -> str:
    return FENCE.sub("", text_of(page))


def placed(page: str) -> dict[str, str]:
    """Python blocks whose first line names a file: that file -> the block."""
    found = {}
    for body in blocks(page, "python"):
        first, _, rest = body.partition("\n")
        if first.startswith("# ") and first.endswith(".py"):
            found[first[2:]] = rest
    return found


def targets(page: str, images: bool) -> list[str]:
    """Relative targets of links, without their anchors."""
    found = re.findall(r"(!?)\[[^\]]*\]\(([^)#\s]+)[^)]*\)", prose(page))
    return [t for mark, t in found if bool(mark) == images and "://" not in t and not t.startswith("mailto:")]


def named_files(page: str) -> set[str]:
    """Repository paths in back quotes, and paths of the package such as `samplers/names.py`."""
    words = re.findall(r"`([\w./-]+/[\w./-]*)`", prose(page)) + re.findall(r"`(\w+\.py)`", prose(page))
    return {w for w in words if not w.startswith(("out/", "runs/", "owner/", ".venv", "recipes/<"))}


def commands(page: str) -> list[list[str]]:
    """Every `hvis ...` of a page: lines of its blocks, and calls in back quotes."""
    lines = [line for kind in ("bash", "powershell") for body in blocks(page, kind) for line in body.splitlines()]
    for body in blocks(page, "python"):  # the commands in the head of a recipe
        lines += [line.strip() for line in body.splitlines() if line.strip().startswith("hvis ")]
    lines += re.findall(r"`(hvis [^`]+)`", prose(page))
    plain = [re.sub(r"^(\.venv/bin/|\.venv\\Scripts\\)", "", line.partition("    #")[0].strip()) for line in lines]
    return [shlex.split(line)[1:] for line in plain if line.startswith("hvis ")]
