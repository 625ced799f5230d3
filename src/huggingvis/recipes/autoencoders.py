"""What the recipes of autoencoders share: numbers of their trainings, two kinds of networks, likelihoods of pixels.

Book: chapter 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from huggingvis.core.errors import UsageError
from huggingvis.nets.conv_vae import ConvDecoder, ConvEncoder
from huggingvis.nets.mlp_vae import MLPDecoder, MLPEncoder
from huggingvis.objectives.vae import Bernoulli, Gaussian, Likelihood
from huggingvis.recipes.picture_training import PictureTraining, Updates
from huggingvis.recipes.sources import Facts
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.optim import Constant, Cosine, Optim

NetName = Literal["mlp", "conv"]
LikelihoodName = Literal["bernoulli", "grey", "gaussian"]
CONV_WIDTHS = (32, 64, 128)
PIXELS: dict[LikelihoodName, str] = {
    "bernoulli": "pictures binarised at random, once",
    "grey": "grey values as chances of being on",
    "gaussian": "a density of values in [-1, 1]",
}
"""What the likelihoods speak of."""
WIDE = 2048
"""Units that read more numbers than this move slower in proportion (`Optim.wide`), whatever the size of pictures."""


@dataclass(frozen=True)
class AutoencoderTraining(PictureTraining):
    """Numbers of an autoencoder's training.

    Attributes:
        schedule: of the learning rate, constant, or cosine (to zero by the last step), which pays in long trainings.
        weight_decay: decoupled decay of matrices and kernels.
        muon: matrices and kernels move by Muon, which gains more from a step and takes longer over it.
        ema: decay of the averaged weights that are validated and drawn from; 0: none.
    """

    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 0.0
    muon: bool = False
    ema: float = 0.0

    def updates(self) -> Updates:
        """How weights change, those of every net alike, and whether their averages are kept."""
        course = Cosine(self.steps) if self.schedule == "cosine" else Constant()
        optim = Optim(lr=self.lr, weight_decay=self.weight_decay, schedule=course, muon=self.muon, wide=WIDE)
        return Updates(optim, Ema(ConstantDecay(self.ema)) if self.ema else None)


def likelihood_name(asked: LikelihoodName | None, facts: Facts) -> LikelihoodName:
    """`asked`; none: bernoulli for grey pictures, gaussian for colour, which switched on and off would be others."""
    return asked or ("bernoulli" if facts.channels == 1 else "gaussian")


def likelihood_of(name: LikelihoodName, std: float) -> Likelihood:
    """Of pixels: bernoulli (of pictures binarised anew each time), grey (Bernoulli of grey values) or gaussian."""
    known: dict[LikelihoodName, Likelihood] = {
        "bernoulli": Bernoulli(binarise=True),
        "grey": Bernoulli(),
        "gaussian": Gaussian(std),
    }
    return known[name]


@dataclass(frozen=True)
class Coders:
    """Encoders and decoders of one kind. `widths` from the picture on; decoders have them in reverse."""

    net: NetName
    widths: tuple[int, ...]
    latent_dim: int

    def __post_init__(self) -> None:
        if min((self.latent_dim, *self.widths)) < 1 or (self.net == "conv" and not self.widths):
            raise UsageError(
                f"An autoencoder needs layers of at least one unit, a convolutional one at least one layer: found "
                f"widths {list(self.widths)} and {self.latent_dim} numbers in z."
            )

    @classmethod
    def of(cls, net: NetName, widths: tuple[int, ...] | None, latent_dim: int, usual: tuple[int, ...]) -> Coders:
        """With layers of `widths`; none: `usual` ones of perceptrons, `CONV_WIDTHS` of convolutions."""
        if widths is None:
            widths = CONV_WIDTHS if net == "conv" else usual
        return cls(net, widths, latent_dim)

    def encoder(self, shape: tuple[int, int, int], *, moments: int = 2, cond_dim: int = 0) -> MLPEncoder | ConvEncoder:
        """Picture, and a condition of `cond_dim` numbers, to `moments` times the latent numbers."""
        kind = MLPEncoder if self.net == "mlp" else ConvEncoder
        return kind(shape, self.latent_dim, self.widths, moments=moments, cond_dim=cond_dim)

    def decoder(self, shape: tuple[int, int, int], *, cond_dim: int = 0) -> MLPDecoder | ConvDecoder:
        """Latent numbers, with `cond_dim` more of a condition, to a picture."""
        if self.net == "mlp":
            return MLPDecoder(shape, self.latent_dim + cond_dim, self.widths[::-1])
        return ConvDecoder(shape, self.latent_dim + cond_dim, self.widths)


@dataclass(frozen=True)
class VariationalTraining(AutoencoderTraining):
    """Numbers of a variational autoencoder's training.

    Attributes:
        likelihood: of pixels, bernoulli (of pictures binarised anew each time), grey (Bernoulli of grey values as
            they are) or gaussian. None: bernoulli for grey pictures, gaussian for colour.
        std: deviation of Gaussian pixels; pictures span [-1, 1].
        net: mlp or conv.
        widths: hidden layers of the encoder, from the picture on; the decoder has them in reverse. None: 512, 256 for
            mlp and 32, 64, 128 for conv.
        latent_dim: numbers in z.
        beta: weight of the KL term.
    """

    likelihood: LikelihoodName | None = None
    std: float = 0.2
    net: NetName = "mlp"
    widths: tuple[int, ...] | None = None
    latent_dim: int = 32
    beta: float = 1.0

    def coders(self) -> Coders:
        """Encoder and decoder."""
        return Coders.of(self.net, self.widths, self.latent_dim, usual=(512, 256))

    def pixels(self, facts: Facts) -> Likelihood:
        """The law of pixels given z."""
        return likelihood_of(likelihood_name(self.likelihood, facts), self.std)

    def speaks_of(self, facts: Facts) -> str:
        """What that law is a law of, in words."""
        return PIXELS[likelihood_name(self.likelihood, facts)]
