"""What a refused command says and leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def refused(said: Any, code: int, *words: str) -> None:
    """One paragraph with these words, and this exit code; no traceback, no apology."""
    assert said.code == code, said.err
    for word in words:
        assert word in said.paragraph, said.paragraph
    assert "Traceback" not in said.err and "Sorry" not in said.err
    assert "\n\n" not in said.err.strip()


def left(folder: Path | str = ".") -> list[str]:
    """Every file and folder that is there, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))
