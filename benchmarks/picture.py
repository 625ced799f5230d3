"""Seconds per picture of the model that ships: as a whole process from the shell, and in a program that has loaded it.

    python benchmarks/picture.py

Cold is `hvis generate` from start to exit with its files in the page cache, beside a process that only imports torch.
Warm is `generate` with a loaded system: one picture, and four at once. The targets are 6 s cold and 2 s warm.
"""

from __future__ import annotations

import os
import sys
import tempfile

from common import Report, clock, interleaved, parser, process, row

SENTENCE = "a fox to the left of a pizza"
TORCH = "import torch"
COLD, WARM = 6.0, 2.0


def main() -> None:
    adds = parser(__doc__, repeats=9, threads=2)
    adds.add_argument("--model", help="a model folder or a run folder (default: the model that ships)")
    options = adds.parse_args()
    from huggingvis.api import DEFAULT_MODEL, packaged_models

    if options.model is None and DEFAULT_MODEL not in packaged_models():
        print(f"Not measured: this checkout has no weights/{DEFAULT_MODEL}. Train it by `hvis train tiny`.")
        return
    report = Report(__file__, options, ("numpy", "pillow", "safetensors"))
    cold(report)  # before this process is large
    warm(report)
    report.write()


def cold(report: Report) -> None:
    """Whole processes."""
    threads, model = report.options.threads, report.options.model
    seeds = iter(range(report.options.seed, sys.maxsize))
    with tempfile.TemporaryDirectory() as folder:
        hvis = [sys.executable, "-m", "huggingvis.app.cli", "generate", SENTENCE, "-o", folder, "--device", "cpu"]
        hvis += ["--model", model] if model else []
        spent = interleaved(
            {
                "hvis generate": lambda: process([*hvis, "--seed", str(next(seeds))], threads=threads),
                TORCH: lambda: process([sys.executable, "-c", TORCH], threads=threads),
            },
            report.options.repeats,
        )
    seconds = {name: [s.seconds for s in values] for name, values in spent.items()}
    ours = seconds["hvis generate"]
    peer = {TORCH: seconds[TORCH]}
    report.add(row("cold, one picture", "hvis generate", "s", ours, beside=peer, facts={"target": COLD}))
    report.add(row("cold, no picture", TORCH, "s", peer[TORCH]))
    peaks = [s.peak_mib for s in spent["hvis generate"] if s.peak_mib is not None]
    if peaks:
        report.add(row("cold, peak memory", "hvis generate", "MiB", peaks))


def warm(report: Report) -> None:
    """Calls in this process."""
    os.environ["OMP_NUM_THREADS"] = str(report.options.threads)
    import torch

    from huggingvis import api

    torch.set_num_threads(report.options.threads)
    model = report.options.model
    system = api.load(model, device="cpu")
    seeds = iter(range(report.options.seed, sys.maxsize, 4))

    def draw(pictures: int) -> None:
        api.generate(SENTENCE, model=system, count=pictures, seed=next(seeds))

    kinds = {
        "one": lambda: clock(lambda: draw(1)),
        "four": lambda: clock(lambda: draw(4)) / 4,
        "load": lambda: clock(lambda: api.load(model, device="cpu")),
    }
    found = interleaved(kinds, report.options.repeats, warm=2)
    width, height = system.spec.size
    facts = {"size": f"{width}x{height}", "sampler": system.defaults.sampler, "steps": system.defaults.steps}
    report.add(row("warm, one picture", "huggingvis", "s", found["one"], facts={**facts, "target": WARM}))
    report.add(
        row("warm, four at once, each", "huggingvis", "s", found["four"], beside={"one": found["one"]}, facts=facts),
        row("loading the model", "huggingvis", "s", found["load"]),
    )


if __name__ == "__main__":
    main()
