"""Rows of a batch from what Python has: prompts, requests, tables of values, or a file of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingvis.checkpoints.kinds import kind_of
from huggingvis.core.errors import HvisError, UsageError
from huggingvis.core.request import OWN, Limits, Request, Sampling, check
from huggingvis.core.request_fields import files_of
from huggingvis.core.row_files import Cells
from huggingvis.recipes.asking import rows_asked
from huggingvis.recipes.batching import Row
from huggingvis.recipes.row_places import rows_in

Told = str | Path | Iterable[str | Request | Mapping[str, Any]]
_FAULTS_SHOWN = 10


def rows_of(told: Told, base: Request | None = None) -> list[Row]:
    """The rows that a file, or prompts, requests and tables of values ask for, on top of `base`.

    Raises `UsageError` that tells of every row that no model could make, `FileProblem` for a file that is no such.
    """
    if isinstance(told, str | Path):
        items: list[Any] = list(rows_in(told))
    else:
        items = list(told)
    rows, faults = list[Row](), list[tuple[int, str]]()
    for n, item in enumerate(items, start=1):
        number = item.number if isinstance(item, Cells) else n
        try:
            made = rows_of_one(item, number, base)
        except HvisError as error:
            faults.append((number, str(error)))
            continue
        fault = next(filter(None, (fault_of(row.request) for row in made)), None)
        faults += [] if fault is None else [(number, fault)]
        rows += made
    if faults:
        raise faulty(faults, len(items))
    return rows


def rows_of_one(item: Any, number: int, base: Request | None = None) -> list[Row]:
    """The rows of one item: several where its pictures draw words of their own.

    Raises `UsageError` for what is none, and for a field that a request does not have.
    """
    if isinstance(item, Request):
        return [Row(item.with_seeds(), number)]
    if isinstance(item, Cells):
        return rows_asked(item.values, base, number)
    if isinstance(item, str):
        return rows_asked({"prompt": item}, base, number)
    if isinstance(item, Mapping):
        return rows_asked(item, base, number)
    raise UsageError(f"A row is a prompt, a Request or a table of values; found {type(item).__name__}.")


def faulty(faults: Sequence[tuple[int, str]], count: int, name: str = "row") -> UsageError:
    """The error for rows that are wrong, each with what is wrong with it."""
    alike: dict[str, list[int]] = {}
    for number, fault in faults:
        alike.setdefault(fault, []).append(number)
    shown = [f"{name} {_first(numbers)}: {fault}" for fault, numbers in list(alike.items())[:_FAULTS_SHOWN]]
    more = len(alike) - len(shown)
    end = [f"... and {more} more."] if more else []
    return UsageError(
        "\n".join([f"{len(faults)} of {count} requests cannot be made; nothing was begun.", *shown, *end])
    )


def _first(numbers: Sequence[int]) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} and {len(numbers) - 1} more"


def _check_names(sampling: Sampling) -> None:
    """Raises `UsageError` for a sampler or a schedule that no model has."""
    usual = Sampling()
    if sampling.sampler not in (OWN, usual.sampler):
        from huggingvis.samplers.names import split_label

        split_label(sampling.sampler)
    if sampling.schedule not in (OWN, usual.schedule):
        from huggingvis.samplers.names import schedule_name

        schedule_name(sampling.schedule)


def fault_of(request: Request) -> str | None:
    """What is wrong with a request whatever model makes it, or None."""
    try:
        check(request, Limits(multiple=1, prompt_required=False, options=tuple(request.options)))
        _check_names(request.sampling)
    except HvisError as error:
        return str(error)
    gone = next((path for path in files_of(request) if not os.path.exists(path)), None)
    if gone is not None:
        return f"There is no file {gone}. Check the path."
    plain = (use.path for use in request.adapters if os.path.isdir(use.path) and kind_of(use.path).name == "folder")
    wrong = next(plain, None)  # before all that is in it is read, to tell it from others
    return None if wrong is None else f"{wrong} is a folder with no LoRA, embedding or control net. Name the file."
