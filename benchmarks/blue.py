"""Another database for a retrieval-augmented model, without training: of the things it draws, how many become blue.

    hvis train rdm --run runs/rdm --data world:5000 --size 32
    python benchmarks/blue.py --model runs/rdm --count 200

The judge of the world counts blue things among all that it finds in what the model draws from the database of its
training and from one of pictures in which every thing is blue. Beside them the share in pictures of each database
itself, which a model that draws like its neighbours would reach. `curves/blue.json`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import HERE, command, write_json
from PIL import Image
from torch.nn import functional as F

import huggingvis as hv
from huggingvis.core.machine import cores, machine, versions
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.core.request import Request
from huggingvis.core.system import System
from huggingvis.data.world import World
from huggingvis.systems.judges.world import WorldJudge, bind

COLOUR = "blue"
CHUNK, SIDE = 50, 64
LAYOUTS = 20_000


def all_blue(world: World, count: int) -> list[np.ndarray]:
    """At most `count` pictures of the world in which every thing is blue, uint8 [H, W, 3]."""
    layouts = (world.layout(i) for i in range(LAYOUTS))
    blue = (layout for layout in layouts if all(thing.colour == COLOUR for thing in layout.things))
    return [world.image(layout) for layout, _ in zip(blue, range(count), strict=False)]


def rate(judge: WorldJudge, pictures: np.ndarray) -> dict[str, float]:
    """Share of blue things among those found in pictures uint8 [N, H, W, 3], and how many were found in each."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    large = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True).round().clamp(0, 255)
    seen = large.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    found = [thing for i in range(0, len(seen), CHUNK) for things in judge(seen[i : i + CHUNK]) for thing in things]
    blue = sum(thing.colour == COLOUR for thing in found)
    return {"blue": round(blue / max(1, len(found)), 4), "found": round(len(found) / len(pictures), 3)}


@torch.inference_mode()
def drawn(system: System, count: int, options: dict[str, str]) -> np.ndarray:
    """Pictures of the model with these options, uint8 [N, H, W, 3]."""
    request, out = Request(sampling=system.defaults, options=options), []
    for start in range(0, count, CHUNK):
        n = min(CHUNK, count - start)
        cond = system.conditioner.prepare(system.conditioner([request] * n))
        noise = SeedNoise([system.defaults.seed + start + i for i in range(n)])
        x = system.codec.decode(system.generator(request).sample(n, cond, noise=noise))
        out += [Picture.from_signal(one).pixels for one in x.float().cpu().numpy()]
    return np.stack(out)


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--model", type=Path, required=True, help="run folder of rdm on the world")
    options.add_argument("--count", type=int, default=200, help="pictures from each database")
    given, began = options.parse_args(), time.perf_counter()
    system, judge = hv.load(given.model, device="cpu"), bind()
    world = World(size=system.spec.size[0], split="train")
    blue = all_blue(world, given.count)
    with tempfile.TemporaryDirectory() as folder:
        for i, pixels in enumerate(blue):
            Image.fromarray(pixels).save(Path(folder) / f"{i:04d}.png")
        rows = {
            "own database": drawn(system, given.count, {}),
            "blue database": drawn(system, given.count, {"database": f"folder:{folder}"}),
            "pictures of its own": np.stack([world.image(world.layout(i)) for i in range(given.count)]),
            "pictures of the blue one": np.stack(blue),
        }
        told = {name: rate(judge, pictures) | {"pictures": len(pictures)} for name, pictures in rows.items()}
    about = {"command": command(__file__, sys.argv[1:]), "seed": system.defaults.seed}
    spent = {"seconds": round(time.perf_counter() - began, 1)}
    where = {"machine": machine(cores()), "versions": versions(())}
    write_json(HERE / "curves" / "blue.json", about | spent | where | {"rows": told})
    for name, row in told.items():
        print(f"{name:<26} {row['blue']:.1%} blue of {row['found']:.2f} things a picture")
    return 0


if __name__ == "__main__":
    sys.exit(main())
