"""What a user writes to train a family and save 16 pictures of it, with us and with a peer; `families.py` runs all.

Peers are given `pictures`, a tensor [N, 1, 28, 28] of values in [0, 1], for they read no data sets; we are given
`DATA`, the name of a data set. `STEPS` is for how many steps of 64 pictures (for pythae `EPOCHS`, of how many pictures)
they train. Networks are those that each library brings. Lines that are not empty count.
"""

from __future__ import annotations

OURS = """
import huggingvis as hv

hv.train("{recipe}", "run", {{"data": DATA, "steps": STEPS, "batch": 64}})
hv.export(hv.generate("", model="run", count=16), "out")
"""

VQ_OURS = OURS.replace('"batch": 64', '"batch": 64, "autoencoder": {{"steps": STEPS}}')

PYTHAE_VAE = """
from pythae.models import VAE, VAEConfig
from pythae.pipelines import TrainingPipeline
from pythae.samplers import NormalSampler
from pythae.trainers import BaseTrainerConfig

model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=32, reconstruction_loss="bce"))
config = BaseTrainerConfig(output_dir="run", num_epochs=EPOCHS, per_device_train_batch_size=64, learning_rate=1e-3)
TrainingPipeline(model=model, training_config=config)(train_data=pictures)
NormalSampler(model=model).sample(num_samples=16, output_dir="out")
"""

PYTHAE_VQ_VAE = """
from pythae.models import VQVAE, VQVAEConfig
from pythae.models.nn.benchmarks.mnist import Decoder_ResNet_VQVAE_MNIST, Encoder_ResNet_VQVAE_MNIST
from pythae.pipelines import TrainingPipeline
from pythae.samplers import PixelCNNSampler
from pythae.trainers import BaseTrainerConfig

numbers = VQVAEConfig(input_dim=(1, 28, 28), latent_dim=64)
model = VQVAE(numbers, Encoder_ResNet_VQVAE_MNIST(numbers), Decoder_ResNet_VQVAE_MNIST(numbers))
config = BaseTrainerConfig(output_dir="run", num_epochs=EPOCHS, per_device_train_batch_size=64, learning_rate=1e-3)
TrainingPipeline(model=model, training_config=config)(train_data=pictures)
sampler = PixelCNNSampler(model=model)
sampler.fit(pictures, training_config=config)
sampler.sample(num_samples=16, output_dir="out")
"""

_NORMFLOWS = """
import os
import normflows as nf
import torch
from PIL import Image

def levels():
{body}

priors = [nf.distributions.DiagGaussian(shape) for shape in ((8, 7, 7), (2, 14, 14))]
model = nf.MultiscaleFlow(priors, levels(), [nf.flows.Merge()], transform={transform}, class_cond=False)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(STEPS):
    x = pictures[torch.randint(len(pictures), (64,))]
    x = ((255 * x).round() + torch.rand_like(x)) / 256
    optimizer.zero_grad()
    loss = model.forward_kld(x)
    if torch.isfinite(loss):
        loss.backward()
        optimizer.step()
os.makedirs("out")
with torch.no_grad():
    drawn = model.sample(16)[0]
for i, picture in enumerate(255 * drawn.clamp(0, 1)):
    Image.fromarray(picture[0].byte().numpy()).save(f"out/{{i}}.png")
"""

NORMFLOWS_REALNVP = _NORMFLOWS.format(
    transform="nf.transforms.Logit(0.05)",
    body="""\
    def couplings(channels, mode, count):
        layers = []
        for i in range(count):
            passes = channels if mode == "checkerboard" else channels // 2
            net = nf.nets.ConvResidualNet(passes, 2 * passes, 64, num_blocks=4)
            torch.nn.init.zeros_(net.final_layer.weight)
            cut = mode + ("_inv" if i % 2 else "")
            layers += [nf.flows.ActNorm((channels, 1, 1)), nf.flows.AffineCouplingBlock(net, True, "sigmoid", cut)]
        return layers
    coarse = [nf.flows.Squeeze()] + couplings(2, "checkerboard", 4)
    fine = couplings(4, "channel", 3) + [nf.flows.Squeeze()] + couplings(1, "checkerboard", 3)
    return [coarse, fine]""",
)

NORMFLOWS_GLOW = _NORMFLOWS.format(
    transform="None",
    body="""\
    return [[nf.flows.GlowBlock(c, 256) for _ in range(16)] + [nf.flows.Squeeze()] for c in (8, 4)]""",
)


def lines(text: str) -> int:
    """Lines that are not empty."""
    return sum(bool(line.strip()) for line in text.splitlines())
