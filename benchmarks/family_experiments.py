"""The experiments of chapters 1 to 3 beside papers' own figures: what is asked, what is taken, what papers expect."""

from __future__ import annotations

from experiments import Chapters, Experiment
from family_rows import FAMILY_ROWS


def _classes(about: str, row: str, how: str) -> Experiment:
    return Experiment(
        about=f"{about}: classes",
        asked="class accuracy by an independent classifier",
        taken=f"500 digits, each class in turn, seen by a LeNet{how}",
        expected="far above chance; the classifier's own accuracy on real digits, told beside, is where it could end",
        order=(f"{row}:accuracy", f"{row}:chance"),
        more=True,
    )


def _level(side: int, what: str) -> Experiment:
    return Experiment(
        about=f"PGGAN: {what}, at {side} pixels",
        asked="from 4 to 32 pixels: sliced Wasserstein distance of each level, against no growing at equal images",
        taken="digits from 7 to 28 pixels, 240,000 images each; 2,000 drawn pictures against as many others",
        expected="growing is ahead at every level (Karras et al. 2017, Table 1, rows a and b)",
        figure=f"swd_{side}",
        order=("pggan", "pggan_plain"),
    )


_EXPERIMENTS = (
    Experiment(
        about="VQ-VAE: a prior of codes",
        asked="512 codes and a small causal prior: bits/dim, perplexity of the codebook",
        taken="digits of 28 x 28, 49 codes each; the perplexity is that of 64 digits at a time",
        expected="a learnt prior costs fewer bits than the uniform one that the autoencoder is trained under",
        order=("vq_vae:bits_per_dim", "vq_vae:autoencoder_bits_per_dim"),
    ),
    Experiment(
        about="VQ-VAE beside flows",
        asked="bits/dim (no comparison of its own)",
        taken="validation digits of 28 x 28, 2,000 of VQ-VAE's; Glow's figure is that of its own page",
        expected="the flow is ahead (CIFAR-10: Glow 3.35, VQ-VAE 4.67)",
        figure="bits_per_dim",
        order=("glow", "vq_vae"),
    ),
    _classes("VQ-VAE", "vq_vae", ""),
    _classes("CVAE", "cvae", "; the paper's own task is on the page of published figures"),
    _classes("CGAN", "cgan", "; its Parzen estimate is on the page of published figures"),
    Experiment(
        about="DCGAN: features",
        asked="a linear machine on features of the discriminator against one on pixels",
        taken="a linear probe fitted to 10,000 digits and scored on 10,000 others",
        expected="features tell more classes apart than pixels (Radford et al. 2015, Sec. 5)",
        order=("dcgan:probe", "dcgan:probe_of_pixels"),
        more=True,
    ),
    Experiment(
        about="DCGAN: pictures",
        asked="Fréchet distance in features of a judge",
        taken="1,000 digits in a LeNet's features, beside the GAN of perceptrons",
        expected="convolutions draw better than perceptrons",
        figure="frechet",
        order=("dcgan", "gan"),
    ),
    _level(28, "all patches"),
    Experiment(
        about="StyleGAN: path lengths",
        asked="path length in W below that in Z",
        taken="1,000 ways by pixels, since there is no VGG; 5,000 layouts of the world at 32 x 32",
        expected="the mapping makes ways in W shorter, as in FFHQ's (Karras et al. 2018, Tables 3 and 4)",
        order=("stylegan:path_w", "stylegan:path_z"),
    ),
    Experiment(
        about="GAN inversion",
        asked="edits of scenes after inversion",
        taken="how near the generator comes to 8 held-out scenes, in W and in W+; no edits",
        expected="one style for each layer comes nearer than one for all (Abdal et al. 2019, Sec. 5)",
        figure="psnr",
        order=("gan_inversion_plus", "gan_inversion"),
        more=True,
    ),
)

_LEFT_OUT = (
    "Figures that papers report of these chapters, with autoencoder, VAE, GAN, NICE, Real NVP and Glow: published.md.",
    "StyleGAN's mixing by layers, position against colour: `hvis explore mix` shows it, but nothing here reads "
    "positions off pictures that no layout made. For the same reason arithmetic in DCGAN's latents, Glow's attribute "
    "vectors and edits after inversion have no figures.",
    "The Fashion-MNIST at hand is 720 pictures, 120 of them held out: too few for a probe or a distance, so that "
    "experiments named for it are on MNIST.",
    "Finite scalar and lookup-free quantisers are the same recipe with another quantiser; nothing was asked of them.",
)

FAMILIES = Chapters(
    title="chapters 1 to 3",
    figures=(
        "Figures are of validation digits and of layouts that no training sees. A Fréchet distance and a sliced "
        "Wasserstein distance (times 1000) stand beside their floor, that of other real pictures."
    ),
    rows=FAMILY_ROWS,
    experiments=_EXPERIMENTS,
    left_out=_LEFT_OUT,
)
