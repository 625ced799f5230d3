"""Writes the measured scene accuracy into the documents, so that no number in them is typed by hand.

    hvis evaluate -o benchmarks/tiny_scene_accuracy.json
    python benchmarks/write_scores.py             fill README.md, README.zh.md and the two model cards
    python benchmarks/write_scores.py --check     only say which of them differ from the result

What stands between `<!-- scores:begin -->` and `<!-- scores:end -->` is replaced. Needs the standard library alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RESULT = "benchmarks/tiny_scene_accuracy.json"
BEGIN, END = "<!-- scores:begin -->", "<!-- scores:end -->"
ROWS = ("single", "two", "three", "count", "colour", "position", "all")

ENGLISH = {
    "single": "one thing", "two": "two things", "three": "three things", "count": "count", "colour": "colour",
    "position": "position", "all": "all", "n": "prompts", "model en": "English", "model zh": "Chinese",
    "floor en": "floor: another sentence", "floor zh": "floor, Chinese", "ceiling en": "ceiling: true pictures",
    "difference": "English − Chinese", "frechet": "Fréchet distance in the judge's features",
    "facts": "{prompts} prompts in each language, seed {seed}; by `{command}`{more}.",
    "interval": "In brackets: confidence intervals of {level}.", "comma": ", ",
}  # fmt: skip
CHINESE = {
    "single": "一样东西", "two": "两样东西", "three": "三样东西", "count": "数量", "colour": "颜色", "position": "位置",
    "all": "全部", "n": "题数", "model en": "英文", "model zh": "中文", "floor en": "下限：换一句话",
    "ceiling en": "上限：真实的图", "facts": "每种语言 {prompts} 题，种子 {seed}；由 `{command}` 得到{more}。",
    "comma": "，",
}  # fmt: skip


@dataclass(frozen=True)
class Form:
    """How one document shows the result: its words, its columns ("label language"), with intervals or without."""

    words: Mapping[str, str]
    columns: tuple[str, ...]
    intervals: bool = False
    differences: bool = False
    frechet: bool = False


SHORT = ("floor en", "model en", "model zh", "ceiling en")
FORMS = {
    "README.md": Form(ENGLISH, SHORT),
    "README.zh.md": Form(CHINESE, SHORT),
    "docs/models/tiny.md": Form(ENGLISH, SHORT, intervals=True, differences=True, frechet=True),
    "docs/models/judge-world.md": Form(ENGLISH, ("floor en", "floor zh", "ceiling en"), intervals=True),
}


def section(result: Mapping[str, Any], form: Form) -> str:
    """What stands between the markers. Raises `KeyError` where the result lacks a number."""
    words, scores = form.words, result["scene_accuracy"]
    series = []
    for column in form.columns:
        label, language = column.split()
        series.append((words[column], scores[label]["accuracy"][language]))
    if form.differences:
        series.append((words["difference"], scores["model"]["difference"]["zh"]))
    first = series[0][1]
    lines = [["", words["n"], *(title for title, _ in series)], [":--", *["--:"] * (len(series) + 1)]]
    for row in ROWS:
        if row in first:
            cells = [_cell(values.get(row), form.intervals) for _, values in series]
            lines.append([words[row], str(first[row]["n"]), *cells])
    text = ["\n".join(f"| {' | '.join(line)} |" for line in lines)]
    if form.intervals:
        text.append(words["interval"].format(level=f"{first[ROWS[0]]['level']:.0%}"))
    if form.frechet:
        text.append(f"{words['frechet']}: {_distances(result['frechet'])}.")
    return "\n\n".join([*text, _facts(result, words)])


def _cell(value: Mapping[str, float] | None, interval: bool) -> str:
    if value is None:
        return "–"
    return f"{value['value']:.3f}" + (f" [{value['low']:.3f}, {value['high']:.3f}]" if interval else "")


def _distances(found: Mapping[str, Mapping[str, float]]) -> str:
    return ", ".join(
        f"{label} {_number(v['value'])} [{_number(v['low'])}, {_number(v['high'])}]" for label, v in found.items()
    )


def _number(value: float) -> str:
    return f"{value:.3g}"


def _facts(result: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """Command and seed, and machine, time and versions where the result names them."""
    machine = result.get("machine")
    told = [f"{machine['cores']} cores of {machine['cpu']}"] if machine else []
    if "seconds" in result:
        told.append(f"{result['seconds']:.0f} s")
    told += [f"{name} {version}" for name, version in result.get("versions", {}).items()]
    command = result.get("command", f"hvis evaluate --prompts {result['prompts']} --seed {result['seed']}")
    more = "".join(f"{words['comma']}{fact}" for fact in told)
    return words["facts"].format(prompts=result["prompts"], seed=result["seed"], command=command, more=more)


def filled(document: str, inside: str) -> str:
    """`document` with `inside` between its markers. Raises `ValueError` unless each marker stands in it once."""
    if document.count(BEGIN) != 1 or document.count(END) != 1 or document.index(BEGIN) > document.index(END):
        raise ValueError(f"it needs {BEGIN} and, after it, {END}, once each")
    before, _, rest = document.partition(BEGIN)
    return f"{before}{BEGIN}\n{inside}\n{END}{rest.partition(END)[2]}"


def main(words: Sequence[str]) -> int:
    """Fill or check the documents; returns the exit code."""
    path = REPOSITORY / RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"{RESULT} cannot be read ({error}). Make it: hvis evaluate -o {RESULT}", file=sys.stderr)
        return 1
    different = 0
    for name, form in FORMS.items():
        document = REPOSITORY / name
        before = document.read_text(encoding="utf-8")
        try:
            after = filled(before, section(result, form))
        except (KeyError, ValueError) as error:
            print(
                f"{name} cannot be filled from {RESULT}: {error}. Measure again, or mend the document.", file=sys.stderr
            )
            return 1
        if after != before:
            different += 1
            print(f"{name} {'differs' if '--check' in words else 'written'}")
            if "--check" not in words:
                beside = document.with_name(f".{document.name}.tmp")
                beside.write_text(after, encoding="utf-8")
                os.replace(beside, document)
    return 1 if different and "--check" in words else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
