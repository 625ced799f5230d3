"""Trainings of chapters 1 to 3, in the order in which they are worth their time; `family_experiments.py` says what for.

Those of the same chapters whose figures papers report are in `published_rows.py`. Digits are MNIST's at their own 28
pixels, since they come with a judge; what needs colour and layers of style is trained on 5,000 layouts of the world at
32. PGGAN grows on digits: of the world it drew noise after the 96,000 images that seven minutes of a core allow.
`minutes` are from `published.py budget`, in seconds of one core.
"""

from __future__ import annotations

from typing import Any

from trainings import ACCURACY, JUDGE, Training

WORLD = "world:5000"
PATCHES = "--swd 2000"
"""Words for the sliced Wasserstein distance to as many digits that no training sees."""
_USUAL = {"precision": "bf16", "sample_every": 500}
_GROWN: dict[str, Any] = {"width": 8, "most": 32, "batch": 64, "steps": 3750}


def _growing(fade: int, settle: int, minutes: float) -> Training:
    return Training(
        system="PGGAN",
        recipe="pggan",
        numbers={**_USUAL, **_GROWN, "fade": fade, "settle": settle},
        curve="_rank",
        evaluate=(PATCHES,),
        minutes=minutes,
    )


FAMILY_ROWS: dict[str, Training] = {
    "vq_vae": Training(
        system="VQ-VAE",
        recipe="vq_vae",
        numbers={
            **_USUAL, "autoencoder": {"width": 64, "steps": 4000}, "prior": {"dim": 128, "depth": 3, "heads": 4},
            "steps": 3000,
        },
        curve="_bits_per_dim",
        evaluate=("--limit 2000", ACCURACY),
        held_out=("autoencoder._perplexity", "autoencoder._bits_per_dim"),
        minutes=10.4,
    ),
    "dcgan": Training(
        system="DCGAN",
        recipe="dcgan",
        numbers={**_USUAL, "width": 32, "steps": 3000},
        curve="_rank",
        evaluate=("--probe 10000", f"--frechet 1000 --judge {JUDGE}"),
        minutes=7.6,
    ),
    "stylegan": Training(
        system="StyleGAN",
        recipe="stylegan",
        numbers={**_USUAL, "width": 16, "most": 64, "latent_dim": 64, "steps": 3000},
        data=WORLD,
        curve="_rank",
        evaluate=("--path-length 1000", PATCHES),
        minutes=11.8,
    ),
    "gan_inversion": Training(
        system="GAN inversion",
        recipe="gan_inversion",
        numbers={"model": "runs/stylegan"},
        data=WORLD,
        evaluate=(),
        held_out=("psnr",),
        minutes=0.3,
    ),
    "gan_inversion_plus": Training(
        system="GAN inversion",
        recipe="gan_inversion",
        numbers={"model": "runs/stylegan", "search": {"space": {"kind": "WPlus"}}},
        data=WORLD,
        evaluate=(),
        held_out=("psnr",),
        minutes=0.3,
    ),
    "pggan": _growing(30_000, 30_000, 9.5),
    "pggan_plain": _growing(0, 0, 12.9),
    "cvae": Training(
        system="CVAE",
        recipe="cvae",
        numbers={**_USUAL, "steps": 20_000},
        curve="_elbo",
        evaluate=("--limit 2000", ACCURACY),
        minutes=3.7,
    ),
}  # fmt: skip
"""Each needs what its numbers name as `runs/...`, which stands before it."""
