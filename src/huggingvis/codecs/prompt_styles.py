"""Styles: words that are put around a prompt by name, from a table that AUTOMATIC1111's web UI writes too.

    name,prompt,negative_prompt
    film,"{prompt}, 35mm, grain","digital, oversharpened"

`{prompt}` stands for what was typed; without it the style's words follow, after a comma. Book: chapter 6, "What a
prompt can say".
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from huggingvis.core.errors import FileProblem, unknown
from huggingvis.core.files import explain

PLACE = "{prompt}"


@final
@dataclass(frozen=True)
class Style:
    """Words around a prompt and around a negative prompt."""

    prompt: str = ""
    negative: str = ""


def read_styles(path: Path) -> dict[str, Style]:
    """The styles in a file, by name. Raises `FileProblem`."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, skipinitialspace=True)
            columns = list(rows.fieldnames or ())
            text = "prompt" if "prompt" in columns else "text"  # as it was called at first
            if "name" not in columns or text not in columns:
                raise FileProblem(
                    f"{path} should be a table of styles that begins with name,prompt,negative_prompt, but it begins "
                    f"with {','.join(columns) or 'nothing'}."
                )
            return {
                row["name"]: Style(row[text] or "", row.get("negative_prompt") or "")
                for row in rows
                if row["name"] and row[text] is not None
            }
    except OSError as error:
        raise explain(error, path, "read") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileProblem(f"{path} is no table of styles: {error}. It is UTF-8 text with commas.") from error


def styled(prompt: str, negative: str, names: Sequence[str], styles: Mapping[str, Style]) -> tuple[str, str]:
    """Both prompts with the styles around them, one after another. Raises `UsageError` for a name that is none."""
    for name in names:
        if name not in styles:
            raise unknown("style", name, styles)
        prompt, negative = _around(styles[name].prompt, prompt), _around(styles[name].negative, negative)
    return prompt, negative


def _around(style: str, prompt: str) -> str:
    if PLACE in style:
        return style.replace(PLACE, prompt)
    return ", ".join(part for part in (prompt.strip(), style.strip()) if part) if style else prompt
