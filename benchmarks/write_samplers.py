"""Writes docs/samplers.md from the table of samplers and schedules, so that the page cannot go stale.

python benchmarks/write_samplers.py             write the page
python benchmarks/write_samplers.py --check     only say whether it differs
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingvis.recipes.sampler_facts import sampler_records, schedule_records

PAGE = Path(__file__).resolve().parents[1] / "docs" / "samplers.md"
NAMES = ("A1111", "ComfyUI", "diffusers")
HEAD = """# Samplers and schedules

A sampler and a schedule are chosen by name, in any community's spelling:

```bash
hvis generate "a fox" --sampler "DPM++ 2M Karras"
hvis catalog samplers
hvis catalog schedules
```

The last two print what stands here, with the papers; of a sampler also the order that regression finds on a mixture
of Gaussians, whose flow is known exactly, and the error it makes there in 20 network calls. Where a name has a
diffusers class, its test compares every network call and the final sample with that of the class.

## Which one, in how many steps

Measured on any model that loads, a shipped one, a run of your own or a file:

```bash
hvis compare samplers --model tiny --nfe 5,10,20,50
hvis compare samplers --model runs/ddpm --samplers ddim,euler-a,pc --against mnist --count 500
```

It writes the numbers, a plot of quality against network calls and a contact sheet of the same seeds. Samplers without
fresh noise are measured by how near they come to a reference of many calls (PSNR); with `--against`, all of them by
the Fréchet distance to real pictures. These are all samplers on the shipped model;
[the numbers](../benchmarks/foundations.md) stand with the other experiments.

![Quality against network calls of every sampler](../benchmarks/curves/samplers.png)

`hvis explain process cosine` draws the process that they walk back: alpha, sigma, log-SNR, and a picture on its way to
noise.

## Fitted to one model

Two recipes take a finished run and make few steps of it better; what they find is a run of its own, which draws by it:

```bash
hvis train analytic_dpm --run runs/best --denoiser runs/ddpm
hvis train ggdm --run runs/five --denoiser runs/ddpm --calls 5
hvis generate --model runs/five
hvis compare samplers --model runs/five --samplers learned,ddim,dpm++2m --nfe 5
```

The first finds the best variance of each step and the best times, from pictures that are looked at once. The second
trains every number of the steps through the chain, best by the features of a classifier (`--judge`, a run of
`noisy_classifier`). What they are worth is measured [here](../benchmarks/foundations.md).

"""


def page() -> str:
    """The whole page, from the rows of `samplers/names.py` and what is measured of them."""
    samplers = [
        [
            f"`{r['name']}`",
            *_elsewhere(r),
            str(r["order"]),
            str(r["calls"]),
            "yes" if r["stochastic"] else "no",
            _proof(r),
        ]
        for r in sampler_records(measured=False)
    ]
    schedules = [
        [f"`{r['name']}`", *_elsewhere(r), "tables" if r["tables_only"] else "any", _proof(r)]
        for r in schedule_records()
    ]
    first = _table(("ours", *NAMES, "order", "calls per step", "draws noise", "test"), samplers)
    second = _table(("ours", *NAMES, "process", "test"), schedules)
    return f"{HEAD}## Samplers\n\n{first}\n## Schedules\n\n{second}"


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def _elsewhere(row: Mapping[str, Any]) -> list[str]:
    return [", ".join(row[key]) for key in ("a1111", "comfyui", "diffusers")]


def _proof(row: Mapping[str, Any]) -> str:
    file, _, test = str(row["proof"]).partition("::")
    return f"[{test.removeprefix('test_')}](../{file})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(words: Sequence[str]) -> int:
    same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page()
    if "--check" in words:
        print("as it should be" if same else "stale: run python benchmarks/write_samplers.py")
        return 0 if same else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
