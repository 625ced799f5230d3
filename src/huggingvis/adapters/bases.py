"""Whether an adapter was made for this base, said in a sentence and from sizes alone, before anything is built."""

from __future__ import annotations

from collections.abc import Sequence

from huggingvis.core.errors import UsageError

_TOKENS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL", 1280: "the XL refiner"}


def same_tokens(what: str, found: int, base: int) -> None:
    """Raises `UsageError` where an adapter's text tokens are of another width than the base's."""
    if found == base:
        return
    names = [f", as {_TOKENS[n]}'s" if n in _TOKENS else "" for n in (found, base)]
    raise UsageError(
        f"This {what} was made for a base whose text tokens have {found} numbers{names[0]}; those of this U-Net have "
        f"{base}{names[1]}. Load it beside the base it was made for, or get its version for this one."
    )


def same_widths(what: str, found: Sequence[int], base: Sequence[int]) -> None:
    """Raises `UsageError` where an adapter's maps have other channels than the places of the base they are added to."""
    if list(found) != list(base):
        raise UsageError(
            f"This {what} was made for a base with channels {_few(found)} where it adds to it; this U-Net has "
            f"{_few(base)}. Load it beside the base it was made for, or get its version for this one."
        )


def same_sizes(what: str, found: Sequence[int], base: Sequence[int]) -> None:
    """Raises `UsageError` where an adapter halves its maps at other levels than the base does."""
    if list(found) != list(base):
        raise UsageError(
            f"This {what} makes maps that are {found} times smaller than its first; this U-Net adds maps of {base}. "
            "Load it beside the base it was made for, or get its version for this one."
        )


def _few(numbers: Sequence[int]) -> str:
    """Neighbours that are equal told once."""
    kept = [n for i, n in enumerate(numbers) if i == 0 or n != numbers[i - 1]]
    return f"{', '.join(map(str, kept))} ({len(numbers)} places)"
