"""Pictures of many requests, each made once: `batch`, and `grid`, the labelled sheet of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from huggingvis.api.loading import Loading, load
from huggingvis.core.errors import HvisError
from huggingvis.core.request import Request

if TYPE_CHECKING:
    from huggingvis.api.loading import Model
    from huggingvis.core.axes import Axis
    from huggingvis.core.media import Picture
    from huggingvis.recipes.batch_rows import Told
    from huggingvis.recipes.batching import Done, Outcome, Row


def batch(
    requests: Told,
    folder: str | Path,
    *,
    model: Model = None,
    base: Request | None = None,
    on_row: Callable[[Outcome], None] = lambda outcome: None,
    **loading: Unpack[Loading],
) -> Done:
    """The pictures of many requests, each made once: those that `folder` has already are kept, whoever stopped before.

    `requests`: prompts, `Request`s, tables of values by field (`{"prompt": "a fox", "steps": 20}`), or a file of them
    (.txt, .csv, .jsonl); a table's `model` names another than `model`. `base`: what rows do not say; without it the
    model's own numbers. A row that fails does not stop the rest: `Done.outcomes` say what became of each. `loading`:
    device, precision, vae, text_encoder and prediction of `load`, for all models.
    Raises `UsageError` before anything is made where rows are wrong.
    """
    from huggingvis.recipes.batch_rows import rows_of

    return _batch(rows_of(requests, base), folder, model, loading, on_row)


def grid(
    prompt: str | Request,
    *,
    x: str | Axis | None = None,
    y: str | Axis | None = None,
    z: str | Axis | None = None,
    folder: str | Path = "out",
    model: Model = None,
    **loading: Unpack[Loading],
) -> tuple[Picture, Done]:
    """One request with other values along up to three axes: the labelled sheet, and what became of each cell.

    An axis as `"steps=5,10,20"`, `"cfg=1..7:4"`, `"prompt:fox,cat"` (search and replace) or `core.axes.Axis`. Each
    cell's picture is in `folder`, and is not made again by a second call. `loading` as of `batch`.
    """
    from huggingvis.core.axes import Axis
    from huggingvis.recipes.batch_rows import rows_of
    from huggingvis.recipes.grids import Axes, check_cells, sheet_of

    right, down, blocks = (Axis.parse(axis) if isinstance(axis, str) else axis for axis in (x, y, z))
    axes = Axes(right, down, blocks)
    base = prompt.with_seeds() if isinstance(prompt, Request) else None
    words = {} if base else {"prompt": prompt}
    rows = rows_of([{**words, **cells.values} for cells in axes.cells()], base)
    check_cells(rows)
    done = _batch(rows, folder, model, loading, lambda outcome: None)
    return sheet_of(axes, done.outcomes), done


def _batch(
    rows: Sequence[Row], folder: str | Path, model: Model, loading: Loading, on_row: Callable[[Outcome], None]
) -> Done:
    from huggingvis.core.system import System
    from huggingvis.edits.generate import fingerprint
    from huggingvis.recipes import batching
    from huggingvis.recipes.addresses import how_loaded
    from huggingvis.recipes.models import place_of_model

    def of(named: str | None) -> Model:
        return model if named is None else named

    def place(named: str | None) -> Path | str:
        asked = of(named)
        if isinstance(asked, System):
            return fingerprint(asked)
        try:
            return place_of_model(asked)
        except HvisError as error:
            if named is None:
                raise
            return str(error)  # the rows of this model fail when it is loaded

    how = how_loaded(**{name: said for name, said in loading.items() if name != "device"})  # type: ignore[arg-type]
    batch = batching.Batch(Path(folder), lambda named: load(of(named), **loading), place, how, on_row=on_row)
    return batching.run(rows, batch)
