"""The generators that ship with the package, by name; asking needs no torch."""

from __future__ import annotations

from huggingvis.core.catalog import ROOT

DEFAULT = "tiny"
"""The one that is used where no model is named."""


def packaged_models() -> list[str]:
    """Names of the generators that ship with the package."""
    return sorted(p.parent.name for p in ROOT.glob("weights/*/model.json") if not p.parent.name.startswith("judge"))
