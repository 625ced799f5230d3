"""Quality against network calls for many samplers on one picture: a panel for each family, the others grey behind it.

A family is told by what a sampler does, not by its name: how often it calls the network in a step, whether it keeps
what it found in steps before, and whether it draws fresh noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from huggingvis.core.media import Picture
from huggingvis.export.grid import beside, stacked
from huggingvis.export.plot import Axes, Curve, plot
from huggingvis.recipes.sampler_facts import FAMILIES

_SIZE = (600, 400)


def level_of(record: Mapping[str, Any]) -> str:
    """What the distance between two sets of real pictures is called.

    It is a floor, unless the pictures were made from the captions of one of the sets: these show its very scenes, and
    may come nearer to it than the other set does.
    """
    return "real, other captions" if record["against"].get("same_prompts") else "real pictures"


def panels(record: Mapping[str, Any]) -> Picture:
    """A row of panels for each measure of the record of a comparison, and for samplers with fresh noise one more."""
    kinds = {row["sampler"]: (row["stochastic"], row["family"]) for row in record["rows"]}
    rows = []
    if any("psnr" in row for row in record["rows"]):
        rows.append(_row(record, kinds, "psnr", False))
    if "against" in record:
        rows += [_row(record, kinds, "frechet", fresh) for fresh in (False, True)]
    return stacked([row for row in rows if row is not None])


def points(record: Mapping[str, Any], key: str) -> dict[str, list[tuple[float, float]]]:
    """By sampler, from few calls to many: (calls, the number under `key`) where there is one."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in record["rows"]:
        if row.get(key) is not None:
            found.setdefault(row["sampler"], []).append((float(row["calls"]), row[key]))
    return {name: sorted(spots) for name, spots in found.items()}


def _row(record: Mapping[str, Any], kinds: Mapping[str, tuple[bool, str]], key: str, fresh: bool) -> Picture | None:
    curves = points(record, key)
    families = [(kind, [name for name in curves if kinds[name] == (fresh, kind)]) for kind in FAMILIES]
    shown = [_panel(record, curves, mine, key, (fresh, kind)) for kind, mine in families]
    there = [picture for picture in shown if picture is not None]
    return beside(there) if there else None


def _panel(
    record: Mapping[str, Any],
    spots_of: Mapping[str, Sequence[tuple[float, float]]],
    mine: Sequence[str],
    key: str,
    kind: tuple[bool, str],
) -> Picture | None:
    """The curves of `mine`, over all others."""
    if not mine:
        return None
    what = "Fréchet" if key == "frechet" else "PSNR, dB"
    title = f"{record['model']}, {record['schedule']}: {kind[1]}, {'fresh noise' if kind[0] else 'no fresh noise'}"
    marks = tuple(sorted({float(row["nfe"]) for row in record["rows"]}))
    axes = Axes(title, "network calls", what, log_x=True, log_y=key == "frechet", x_ticks=marks, size=_SIZE, ends=True)
    curves = [Curve("", spots, faint=True) for name, spots in spots_of.items() if name not in mine]
    curves += [Curve(name, spots_of[name], marked=True, ink=i) for i, name in enumerate(mine)]
    if key == "frechet":
        calls, floor = [x for spots in spots_of.values() for x, _ in spots], record["against"]["floor"]
        curves.append(Curve(level_of(record), [(x, floor) for x in (min(calls), max(calls))], ink=8))
    return plot(curves, axes)
