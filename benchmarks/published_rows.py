"""Figures that papers report, for `published.py`: settings of ours for each, what is measured, where it stands.

Settings are those of the paper where a few minutes of two cores allow it; `alike` says where they differ. `numbers` is
what differs from the recipe's defaults, so that `published.py` can tell the whole command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainings import ACCURACY, JUDGE, Training


@dataclass(frozen=True, kw_only=True)
class Row(Training):
    """A published figure and how ours is made.

    Attributes:
        paper: figures by the name under which ours is measured, the one that counts first.
        unit: of all of them.
        more: whether more is better.
        source: authors, year, number, table.
        measured: what is measured, how.
        alike: whether the comparison is like for like, and why not.
    """

    paper: Mapping[str, float]
    unit: str
    source: str
    measured: str
    alike: str
    more: bool = False


NOT_COMPARABLE = (
    "DCGAN's 82.8 % on CIFAR-10 (Radford, Metz & Chintala 2015, arXiv 1511.06434, Table 1) classifies by features of a "
    "discriminator that was trained on ImageNet-1k. Without ImageNet there is nothing like it to measure, so it has no "
    "row.",
    "Figures of PGGAN and StyleGAN are of CelebA-HQ, LSUN and FFHQ through an Inception network: neither is at hand.",
)


def _quadrants(seen: int, baseline: float, cvae: float, reproduced: str) -> Row:
    plural = "s" if seen > 1 else ""
    return Row(
        system=f"CVAE, {seen} quadrant{plural} seen",
        recipe="cvae_quadrants",
        numbers={
            "seen": seen, "steps": 6000, "batch": 200, "schedule": "cosine", "weight_decay": 0.1, "ema": 0.999,
            "precision": "bf16", "sample_every": 500,
        },
        paper={"monte_carlo": cvae, "baseline": baseline},
        unit="nats",
        source=(
            "Sohn, Lee & Yan 2015, NeurIPS, Table 1 (Monte Carlo). Reproduced by others (Pyro's tutorial `cvae`, grey "
            f"values, 500 units, 50 epochs): {reproduced}"
        ),
        measured=(
            "minus log p of the hidden pixels by 100 draws from the prior; beside it the network without z, and "
            "importance sampling"
        ),
        alike=(
            "same task, layers of 1000 units and latents as the paper; pixels are binarised anew each time, where "
            "those of the reproduction are grey"
        ),
        curve="_negative_cll",
        draws=100,
        minutes=10,
    )  # fmt: skip


ROWS: dict[str, Row] = {
    "autoencoder": Row(
        system="Autoencoder 784-1000-500-250-30",
        recipe="autoencoder",
        numbers={"steps": 40_000, "batch": 128, "precision": "bf16", "sample_every": 2000},
        paper={"squared_error": 3.00, "pca": 13.87},
        unit="squared error",
        source="Hinton & Salakhutdinov 2006, Science 313, 504, Fig. 2B",
        measured="squared error of a picture of values in [0, 1], mean; beside it that of 30 principal components",
        alike="same layers; 50,000 training pictures in place of 60,000; no pretraining",
        curve="_squared_error",
        minutes=14,
    ),
    "vae_50": Row(
        system="VAE, one stochastic layer of 50",
        recipe="vae",
        numbers={
            "widths": (500, 500), "latent_dim": 50, "steps": 60_000, "schedule": "cosine", "ema": 0.999,
            "precision": "bf16", "sample_every": 3000,
        },
        paper={"log_likelihood": -86.76},
        unit="nats",
        more=True,
        source="Burda, Grosse & Salakhutdinov 2015, arXiv 1509.00519, Table 1 (VAE, k = 1, one layer)",
        measured="importance-weighted bound by 5,000 draws, on stochastically binarised digits",
        draws=5000,
        alike=(
            "same bound, latents and binarisation; hidden layers of 500 SiLU units in place of 200 tanh; the paper "
            "trains for 3,280 epochs"
        ),
        curve="_elbo",
        minutes=12,
    ),
    "cvae_quadrants_1": _quadrants(1, 100.0, 68.6, "100.4 and 71.8"),
    "cvae_quadrants_2": _quadrants(2, 62.1, 45.6, "61.9 and 51.0"),
    "cvae_quadrants_3": _quadrants(3, 26.0, 21.0, "25.4 and 24.2"),
    "gan": Row(
        system="GAN of perceptrons",
        recipe="gan",
        numbers={"steps": 25_000, "precision": "bf16", "sample_every": 2500},
        paper={"parzen": 225.0},
        evaluate=("--parzen 10000", f"--frechet 1000 --judge {JUDGE}"),
        unit="nats",
        more=True,
        source="Goodfellow et al. 2014, arXiv 1406.2661, Table 1 (225 ± 2)",
        measured="windows around 10,000 pictures, their width chosen on 1,000 others of the validation set",
        alike="same networks and estimator; Adam and averaged weights in place of momentum",
        curve="_rank",
        minutes=13,
    ),
    "cgan": Row(
        system="CGAN",
        recipe="cgan",
        numbers={"steps": 25_000, "precision": "bf16", "sample_every": 2500},
        paper={"parzen": 132.0},
        evaluate=("--parzen 10000", ACCURACY),
        unit="nats",
        more=True,
        source="Mirza & Osindero 2014, arXiv 1411.1784, Table 1 (132 ± 1.8)",
        measured="as GAN, 1,000 pictures of each class",
        alike="same networks and estimator; Adam and averaged weights in place of momentum",
        curve="_rank",
        minutes=12,
    ),
    "nice": Row(
        system="NICE, 4 couplings of 5 x 1000",
        recipe="nice",
        numbers={"steps": 2500, "batch": 400, "precision": "bf16", "sample_every": 500},
        paper={"log_density": 1980.50},
        unit="nats",
        more=True,
        source="Dinh, Krueger & Bengio 2014, arXiv 1410.8516, Sec. 5.1, table of results",
        measured="log p of dequantised digits in [0, 1], one draw each",
        alike=(
            "same couplings, prior, dequantisation and unit; couplings and scales start from a first batch; 20 epochs, "
            "after which it overfits (of 40, the last 20 lost 190 nats), where the paper trains for 1,500"
        ),
        curve="_nats",
        minutes=8,
    ),
    "realnvp": Row(
        system="Real NVP, two scales",
        recipe="realnvp",
        numbers={
            "net": {"width": 32, "blocks": 2, "alpha": 1e-3}, "steps": 5000, "batch": 64, "precision": "bf16",
            "sample_every": 500,
        },
        paper={"bits_per_dim": 1.06},
        unit="bits/dim",
        source="Grathwohl et al. 2018, arXiv 1810.01367, Table 2 (their own training of it)",
        measured="log p of 8-bit digits by one draw of the dequantisation",
        alike="same data, dequantisation and unit; smaller networks and few epochs: a budget",
        curve="bits_per_dim",
        minutes=15,
    ),
    "glow": Row(
        system="Glow, two scales",
        recipe="glow",
        numbers={
            "net": {"width": 96, "depth": 8, "alpha": 1e-3}, "lr": 1e-3, "steps": 5000, "batch": 64,
            "precision": "bf16", "sample_every": 500,
        },
        paper={"bits_per_dim": 1.05},
        unit="bits/dim",
        source="Grathwohl et al. 2018, arXiv 1810.01367, Table 2 (their own training of it)",
        measured="log p of 8-bit digits by one draw of the dequantisation",
        alike="same data, dequantisation and unit; smaller networks and few epochs: a budget",
        curve="bits_per_dim",
        minutes=15,
    ),
}  # fmt: skip
