"""Stable Diffusion 1.5 on the CPU beside diffusers: import, start, step, decoding, memory, with the same weights.

    python benchmarks/stable_diffusion.py
    python benchmarks/stable_diffusion.py --small --repeats 1 --out /tmp/look        whether it runs

The weights are random, of full size (860 million numbers in the U-Net), in float32, in one folder of diffusers that
both sides load. diffusers runs as it comes (float32, its usual attention) and at its best without compiling (channels
last, in bfloat16 where the processor multiplies it fast). Ours runs in what `--precision auto` chooses here, and in
float32.

Whole processes tell import, the time from their start to the end of the first guided step, and peak memory: of that,
and of loading the U-Net alone from float32 to bfloat16. In one process the nets take turns: a U-Net step (2 x 4x64x64,
77 tokens; in the middle of a walk: each does one that is not timed before, so ours knows the text and has its memory)
and decoding to 512x512. Before it is timed, our float32
must give diffusers' numbers, within 1e-4 of their length; the others' distance is told beside them. The targets: 0.5 of
the step, 0.55 of the start, 0.15 s above torch, 2.3 GiB.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import HERE, Report, Spent, clock, interleaved, parser, process, row

from huggingvis.core.machine import multiplies_bfloat16

OURS, THEIRS = "huggingvis", "diffusers"
CHILD = HERE / "stable_diffusion_child.py"
IMPORTS = {
    OURS: "from huggingvis import api; api.ready(); import huggingvis.runtime.precision, "
    "huggingvis.systems.stable_diffusion",
    THEIRS: "from diffusers import StableDiffusionPipeline",
    "torch": "import torch",
}
EXACT, BEST = f"{OURS} float32", f"{THEIRS} bfloat16"  # where the first is not what ours chooses
PLAIN_BEST = f"{THEIRS} channels last"
STARTS = {OURS: "first", EXACT: "first-float32", THEIRS: "their-first", BEST: "their-first-half"}
CASTS = {OURS: "cast", THEIRS: "their-cast"}
CLOSE = 1e-4


def main() -> None:
    adds = parser(__doc__, repeats=3, threads=0)
    adds.add_argument("--small", action="store_true", help="tiny nets, to see whether it runs: no result to keep")
    options = adds.parse_args()
    report = Report(__file__, options, (THEIRS, "transformers"))
    if options.small:
        report.notes.append("Tiny nets: these numbers say only that it runs.")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        child("make", folder, options.seed, *(["small"] if options.small else []), threads=options.threads)
        cold(report, folder)  # before this process is large
        warm(report, folder)
    report.write()


def child(name: str, folder: Path, *more: object, threads: int) -> Spent:
    return process([sys.executable, str(CHILD), name, str(folder), *map(str, more)], threads=threads)


# ---- whole processes -------------------------------------------------------------------------------------------------


def cold(report: Report, folder: Path) -> None:
    """Import, start and memory."""
    threads = report.options.threads
    imports = {
        who: partial(process, [sys.executable, "-c", code], threads=threads) for who, code in IMPORTS.items()
    }  # fmt: skip
    chosen = STARTS if multiplies_bfloat16() else {who: STARTS[who] for who in (OURS, THEIRS)}
    starts = {who: partial(child, name, folder, threads=threads) for who, name in chosen.items()}
    casts = {who: partial(child, name, folder, threads=threads) for who, name in CASTS.items()}
    spend(report, "import", imports, memory=False)
    spend(report, "process start to first step", starts)
    spend(report, "U-Net from a float32 file to bfloat16", casts)


def spend(report: Report, what: str, acts: Mapping[str, Callable[[], Spent]], *, memory: bool = True) -> None:
    """Rows of what processes took."""
    spent = interleaved(acts, report.options.repeats)
    add(report, what, "s", {who: [s.seconds for s in values] for who, values in spent.items()})
    peaks = {who: [s.peak_mib for s in values if s.peak_mib is not None] for who, values in spent.items()}
    if memory and all(peaks.values()):
        add(report, f"{what}, peak memory", "MiB", peaks)


def add(
    report: Report, what: str, unit: str, found: Mapping[str, list[float]], facts: Mapping[str, Mapping[str, Any]] = {}
) -> None:
    """A row for each contender; ours beside all others."""
    for who, values in found.items():
        others = {name: other for name, other in found.items() if not name.startswith(OURS)}
        beside = others if who.startswith(OURS) else {}
        report.add(row(what, who, unit, values, beside=beside, facts=facts.get(who)))


# ---- nets in turns ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    """What is timed, and the setting that it is called in."""

    act: Callable[[], Any]
    setting: Callable[[], AbstractContextManager[None]] = nullcontext

    def result(self) -> Any:
        with self.setting():
            return self.act()

    def seconds(self, before: int) -> float:
        """Of one call, after `before` others in the same setting."""
        with self.setting():
            for _ in range(before):
                self.act()
            return clock(self.act)


def warm(report: Report, folder: Path) -> None:
    """A step, and decoding."""
    os.environ["OMP_NUM_THREADS"] = str(report.options.threads)
    import torch

    torch.set_num_threads(report.options.threads)
    with torch.inference_mode():
        take_turns(report, "U-Net step", steps(folder, report.options.seed), before=1)
        take_turns(report, "decoding", decodings(folder, report.options.seed))


def take_turns(report: Report, what: str, nets: Mapping[str, Contender], *, before: int = 0) -> None:
    """Seconds of each contender, and how far its result is from that of diffusers in float32."""
    exact = nets[THEIRS].result()
    length = float(exact.norm())
    apart = {who: float((net.result().float() - exact).norm()) / length for who, net in nets.items() if who != THEIRS}
    if (far := apart.get(EXACT, apart[OURS])) > CLOSE:
        raise SystemExit(f"{what}: ours is {far:.2g} from diffusers', so times cannot be compared.")
    shape = "x".join(map(str, exact.shape))
    facts = {who: {"gives": shape, "apart": float(f"{apart.get(who, 0.0):.1g}")} for who in nets}
    timed = {who: partial(net.seconds, before) for who, net in nets.items()}
    found = interleaved(timed, report.options.repeats, warm=0)
    add(report, what, "s", found, facts)


def steps(folder: Path, seed: int) -> dict[str, Contender]:
    """One call for both halves of guidance, 2 latents."""
    import torch
    from diffusers import UNet2DConditionModel

    from huggingvis.checkpoints.diffusers_unet import from_diffusers
    from huggingvis.core.text_memory import TextMemory, places

    theirs = UNet2DConditionModel.from_pretrained(folder / "unet")
    draw, side = torch.Generator().manual_seed(seed), theirs.config.sample_size
    x = torch.randn(2, 4, side, side, generator=draw)
    tokens = torch.randn(2, 77, theirs.config.cross_attention_dim, generator=draw)

    def ours(dtype: torch.dtype) -> Callable[[], Any]:
        net = from_diffusers(folder / "unet", dtype=dtype, channels_last=True)
        memory = TextMemory()
        for place in places(net):
            place.memory = memory
        return lambda: net(x.to(dtype), torch.full((2,), 500.0), {"tokens": tokens.to(dtype)})

    def diffusers(net: Any) -> Callable[[], Any]:
        return lambda: net(x.to(net.dtype), 500, tokens.to(net.dtype)).sample

    return contenders(ours, diffusers, theirs, partial(UNet2DConditionModel.from_pretrained, folder / "unet"))


def decodings(folder: Path, seed: int) -> dict[str, Contender]:
    """One latent to one picture."""
    import torch
    from diffusers import AutoencoderKL

    from huggingvis.checkpoints.diffusers_autoencoder import from_diffusers
    from huggingvis.checkpoints.diffusers_common import read_config

    side = read_config(folder / "unet")["sample_size"]
    z = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(seed))

    def ours(dtype: torch.dtype) -> Callable[[], Any]:
        net = from_diffusers(folder / "vae", dtype=dtype, channels_last=True)
        return lambda: net.decode(z.to(dtype))

    def diffusers(net: Any) -> Callable[[], Any]:
        return lambda: net.decode(z.to(net.dtype)).sample

    theirs = AutoencoderKL.from_pretrained(folder / "vae")
    return contenders(ours, diffusers, theirs, partial(AutoencoderKL.from_pretrained, folder / "vae"))


def contenders(
    ours: Callable[[Any], Any], diffusers: Callable[[Any], Any], theirs: Any, again: Callable[..., Any]
) -> dict[str, Contender]:
    """Ours in what `auto` chooses and in float32, as pictures are made: with memory that goes from layer to layer and
    back to the system at the end; theirs as it comes and at its best, which is loaded `again`."""
    import torch

    from huggingvis.runtime.memory import reused
    from huggingvis.runtime.precision import usual

    cpu = torch.device("cpu")
    half = usual(cpu) is not torch.float32
    best = again(dtype=usual(cpu)).to(memory_format=torch.channels_last)
    exact = {EXACT: Contender(ours(torch.float32), partial(reused, cpu))} if half else {}
    return {
        OURS: Contender(ours(usual(cpu)), partial(reused, cpu)),
        **exact,
        THEIRS: Contender(diffusers(theirs)),
        BEST if half else PLAIN_BEST: Contender(diffusers(best)),
    }


if __name__ == "__main__":
    main()
