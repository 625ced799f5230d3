"""Rows of a file, and cells of a grid, as requests: each is a few more words of the command that it is given to.

A name is a flag of `hvis generate` or a field of the request (`core.request_fields`), so whatever a command can say, a
column can, and it is checked by the same code. `model` is a name too; what is said once for all rows is not.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, final

from huggingvis.app.arguments import Parser
from huggingvis.app.beside import adapters_of
from huggingvis.app.commands import generate
from huggingvis.app.preferences import Preferences
from huggingvis.app.prompting import drafts, requests_of
from huggingvis.app.screen import Screen
from huggingvis.app.sizes import refiner_of
from huggingvis.core.config import NONE
from huggingvis.core.errors import HvisError, UsageError, unknown
from huggingvis.core.request import AdapterUse, Prompt
from huggingvis.core.request_fields import names, place_of, plain_name
from huggingvis.core.row_files import Cells
from huggingvis.recipes.asking import BESIDE, TABLES, asked_of, is_table, opened
from huggingvis.recipes.batch_rows import fault_of, faulty
from huggingvis.recipes.batching import Row
from huggingvis.recipes.beside import Beside

ONCE = frozenset({
    "--from", "--models", "--output", "--device", "--precision", "--vae", "--text-encoder", "--prediction", "--grid",
    "--json", "--help", "--safety-checker", "--no-metadata", "--format", "--preview", "--preview-every",
    "--preview-decoder",
})  # fmt: skip
"""Flags of `hvis generate` that hold for all rows."""
_ADAPTERS = {field.name for field in fields(Beside)}
_OFF = ("", "no", "false", "off", "0")


@final
class RowReader:
    """Reads rows on top of what a command said."""

    def __init__(self, args: argparse.Namespace, usual: Preferences, screen: Screen):
        self.args, self.usual, self.screen = args, usual, screen
        self.parser = Parser(prog="hvis generate")
        generate.arguments(self.parser, [])
        self._flags = {option for option in self.parser.options() if option not in ONCE}
        self._adapters: dict[str, tuple[AdapterUse, ...]] = {}

    def rows(self, cells: Sequence[Cells], name: str = "row") -> list[Row]:
        """All of them. Raises `UsageError` that tells of every row that cannot be made, before any model is loaded."""
        rows, faults = list[Row](), list[tuple[int, str]]()
        for cell in cells:
            try:
                made = self.row(cell)
            except HvisError as error:
                faults.append((cell.number, self._where(cell, error)))
                continue
            fault = next(filter(None, (fault_of(row.request) for row in made)), None)
            if fault is not None:
                faults.append((cell.number, fault))
            rows += made
        if faults:
            raise faulty(faults, len(cells), name)
        return rows

    def row(self, cells: Cells) -> list[Row]:
        """What one of them asks for: several where its pictures draw words of their own.

        Raises `UsageError` for a name or a value that a request cannot have, `FileProblem`.
        """
        words, fields = self._split(opened(cells.values))
        args = self.parser.read(words, self.args)
        args.prompt = self.args.prompt  # a place of its own, which reading empties
        request = generate.request_of(args, None, None)
        refiner = refiner_of(args, request.refiner, self.usual, self.screen)
        asked = asked_of(fields, replace(request, adapters=self._found(args), refiner=refiner))
        drawn = asked.request.prompt if asked.request.prompt.written else Prompt()
        drafted = drafts(args, asked.request, drawn, self.usual, self.screen)
        return [Row(one, cells.number, asked.model) for one in requests_of(asked.request, drafted)]

    def _split(self, told: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
        """The words of the command that some values are, and the fields of the request that the others are."""
        words, fields = list[str](), dict[str, Any]()
        for name, value in told.items():
            if name == "model" or (name in TABLES and is_table(value)):
                fields[name] = value
                continue
            plain = plain_name(name)
            if value is None and plain in BESIDE:
                continue
            option = f"--{plain.replace('_', '-')}"
            if option not in self._flags and option not in ONCE and ":" not in plain:
                option = self._alias(name)
            if option in ONCE:
                raise UsageError(f"{name!r} is said once for all rows: give {option} to the command.")
            if option in ("--prompt", ""):
                fields["prompt" if option else plain] = value
            elif option in self._flags:
                words += self._words(option, value)
            else:
                fields[plain] = value
        return words, fields

    def _alias(self, name: str) -> str:
        """The flag of a field that was called by another name, or nothing. Raises `UsageError` for no field's name."""
        try:
            parent, _, last = place_of(name).rpartition(".")
        except UsageError:
            known = [option.removeprefix("--").replace("-", "_") for option in self._flags]
            raise unknown("flag or field of a request", name, ["model", *known, *names()]) from None
        if (parent, last) == ("prompt", "text"):
            return "--prompt"
        option = f"--{last.replace('_', '-')}"
        return option if parent in ("prompt", "canvas", "sampling") and option in self._flags else ""

    def _words(self, option: str, value: Any) -> list[str]:
        """The words of one flag. A list of texts is a flag that was said so often, any other list is one value."""
        if isinstance(value, Mapping):  # weights by file
            value = [f"{file}:{weight}" for file, weight in value.items()]
        (action,) = (action for action in self.parser._actions if option in action.option_strings)
        if action.nargs == 0:
            return [] if str(value).lower() in _OFF else [option]
        several = isinstance(action, argparse._AppendAction)
        if several and not isinstance(value, list):
            value = str(value).split(";")
        repeated = isinstance(value, list) and (several or all(isinstance(one, str) for one in value))
        values = value if repeated else [value]
        return [f"{option}={_text(one)}" for one in values]

    def _found(self, args: argparse.Namespace) -> tuple[AdapterUse, ...]:
        """The row's adapters; the same words are looked up once."""
        key = repr([value for name, value in sorted(vars(args).items()) if name in _ADAPTERS])
        if key not in self._adapters:
            self._adapters[key] = adapters_of(args, (), self.usual, self.screen)
        return self._adapters[key]

    def _where(self, cells: Cells, error: HvisError) -> str:
        """What is wrong with a row, with the column that is wrong by itself."""
        for name, value in cells.values.items():
            try:
                self.row(Cells(cells.number, {name: value}))
            except HvisError as alone:
                if str(alone) == str(error):
                    return f"column {name!r}: {error}"
        return str(error)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return NONE if value is None else str(value)
