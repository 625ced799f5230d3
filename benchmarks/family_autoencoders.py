"""VAE and VQ-VAE of `families.py`: ours by recipe and in a plain loop, pythae's by its pipeline and in a plain loop.

VAE: pythae's own networks for flat pictures, 784-512-16-512-784 with rectifiers, beside ours of the same widths with
SiLU; digits black or white, so that -log p has one meaning; the score is minus the importance-weighted bound of 64
draws (Burda et al. 2015, arXiv 1509.00519), by the same function for both. VQ-VAE: the same residual networks on both
sides, 512 codes of 64 numbers on a grid of 7 x 7, codebooks that follow averages; the score is the squared error of a
reconstruction of values in [0, 1], summed over the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from family_task import Clock, Contender, Task, Trained, logged_rate, quiet, seeded
from pythae.data.datasets import DatasetOutput
from pythae.models import VAE as PythaeVAE
from pythae.models import VQVAE as PythaeVQVAE
from pythae.models import VAEConfig, VQVAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.pipelines import TrainingPipeline
from pythae.trainers import BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

import huggingvis as hv
from huggingvis.core.objective import Objective
from huggingvis.core.protocols import Batches
from huggingvis.nets.vq_autoencoder import VQAutoencoder, residual_vq
from huggingvis.objectives.vae import VAE, Bernoulli, NegativeELBO
from huggingvis.objectives.vq_vae import VQVAE, VectorQuantised
from huggingvis.recipes.picture_training import begin
from huggingvis.recipes.token_stage import Averaged, TokenStage, fresh, train_tokens
from huggingvis.recipes.variational import vae, vq_vae
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run

HIDDEN, LATENT = 512, 16
NEVER = 1_000_000


def _left(whole: VAE) -> Callable[[Tensor], Tensor]:
    return lambda x: -whole.log_prob(x)


def _missed(decode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Squared error of `decode(x)`, both in [-1, 1], in units of [0, 1]."""
    return lambda x: ((decode(x) - x) / 2).square().flatten(1).sum(1)


# ---- ours ------------------------------------------------------------------------------------------------------------


def vae_recipe(task: Task, steps: int) -> Trained:
    run = hv.train("vae", task.folder / "vae", _vae_numbers(task, steps), device="cpu")
    net = hv.load(run.path).parts["vae"]
    assert isinstance(net, VAE)
    return Trained(logged_rate(run, task.batch), net, _left(net))


def _vae_numbers(task: Task, steps: int) -> dict[str, Any]:
    return {
        "data": task.data, "steps": steps, "batch": task.batch, "lr": task.lr, "seed": task.seed,
        "widths": (HIDDEN,), "latent_dim": LATENT, "sample_every": NEVER,
    }  # fmt: skip


def vae_loop(task: Task, steps: int) -> Trained:
    source = task.source()
    rng = seeded(task)
    net = vae.network(vae.Config(widths=(HIDDEN,), latent_dim=LATENT), source.facts)
    return Trained(_loop(NegativeELBO(net), source.training, task, steps, rng), net, _left(net))


def vq_recipe(task: Task, steps: int) -> Trained:
    source, setting, stage = task.source(), task.setting("vq_vae"), _stage(task, steps)
    config = vq_vae.Config(data=task.data, seed=task.seed, sample_every=NEVER)
    seeded(task)
    net = fresh(stage, source.facts)
    train_tokens(stage, net, config, source, begin(setting, "vq_vae", config, source), setting)
    rate = logged_rate(Run.open(setting.path / "autoencoder"), task.batch)
    return Trained(rate, net.autoencoder, _missed(lambda x: net.decode(net.encode(x))))


def _stage(task: Task, steps: int) -> TokenStage:
    return TokenStage(Averaged(), likelihood="gaussian", steps=steps, batch=task.batch, lr=task.lr)


def vq_loop(task: Task, steps: int) -> Trained:
    source = task.source()
    rng = seeded(task)
    net: VQVAE = fresh(_stage(task, steps), source.facts)
    rate = _loop(VectorQuantised(net.autoencoder, net.likelihood), source.training, task, steps, rng)
    return Trained(rate, net.autoencoder, _missed(lambda x: net.decode(net.encode(x))))


def _loop(objective: Objective, training: Batches, task: Task, steps: int, rng: torch.Generator) -> float:
    """The plain loop of PyTorch around an objective of ours; its speed."""
    (turn,), (net,) = objective.turns(0), objective.nets().values()
    [optimizer] = Optim(lr=task.lr).build(list(net.parameters()))
    clock = Clock()
    for step in range(steps):
        batch = training.batch(step, task.batch)
        losses = turn.loss(batch, step, rng)
        optimizer.zero_grad()
        torch.stack([value for key, value in losses.items() if not key.startswith("_")]).sum().backward()
        optimizer.step()
        objective.after(turn, step, params={}, batch=batch, reduce=lambda told: told)
        clock.tick()
    net.eval().requires_grad_(False)
    return clock.rate(task.batch)


# ---- pythae ----------------------------------------------------------------------------------------------------------


class Encoder(BaseEncoder):
    """Ours as pythae calls it, with pictures in [0, 1]."""

    def __init__(self, net: VQAutoencoder):
        super().__init__()
        self.first, self.last = net.encoder, net.quant_conv

    def forward(self, x: Tensor) -> Any:
        return ModelOutput(embedding=self.last(self.first(2 * x - 1)))


class Decoder(BaseDecoder):
    """Ours as pythae calls it, with pictures in [0, 1]."""

    def __init__(self, net: VQAutoencoder):
        super().__init__()
        self.first, self.last = net.post_quant_conv, net.decoder

    def forward(self, z: Tensor) -> Any:
        return ModelOutput(reconstruction=(self.last(self.first(z)) + 1) / 2)


class Ticking(TrainingCallback):
    """Times of their steps."""

    def __init__(self, clock: Clock):
        self.clock = clock

    def on_train_step_end(self, training_config: object, **kwargs: object) -> None:
        self.clock.tick()


def _pipeline(net: Any, task: Task, steps: int) -> float:
    """Their own trainer on whole epochs of as many pictures as make up `steps`; its speed."""
    pictures = task.unit()
    epochs = -(-steps * task.batch // len(pictures))
    settings = BaseTrainerConfig(
        output_dir=str(task.folder / "pythae"), learning_rate=task.lr, num_epochs=epochs, seed=task.seed,
        per_device_train_batch_size=task.batch, no_cuda=True,
    )  # fmt: skip
    clock = Clock()
    with quiet():
        pipeline = TrainingPipeline(model=net, training_config=settings)
        pipeline(train_data=pictures[: steps * task.batch // epochs], callbacks=[Ticking(clock)])
    net.eval().requires_grad_(False)
    return clock.rate(task.batch)


def _their_loop(net: Any, task: Task, steps: int) -> float:
    """The plain loop of PyTorch around a model of theirs; its speed."""
    pictures, rng, clock = task.unit(), torch.Generator().manual_seed(task.seed), Clock()
    optimizer = torch.optim.Adam(net.parameters(), lr=task.lr)
    net.train()
    for _ in range(steps):
        x = pictures[torch.randint(len(pictures), (task.batch,), generator=rng)]
        optimizer.zero_grad()
        net(DatasetOutput(data=x)).loss.backward()
        optimizer.step()
        clock.tick()
    net.eval().requires_grad_(False)
    return clock.rate(task.batch)


def _pythae_vae(task: Task) -> Any:
    seeded(task)
    return PythaeVAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce"))


class Moments(nn.Module):
    """Their encoder as ours: [B, 1, 28, 28] in [-1, 1] -> [B, 2 D]."""

    def __init__(self, net: Any):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        told = self.net((x + 1) / 2)
        return torch.cat([told.embedding, told.log_covariance], dim=1)


class Logits(nn.Module):
    """Their decoder as ours: [B, D] -> logits [B, 1, 28, 28]."""

    def __init__(self, net: Any):
        super().__init__()
        self.net = net

    def forward(self, z: Tensor) -> Tensor:
        return torch.logit(self.net(z).reconstruction, eps=1e-7)


def _vae_by(train: Callable[[Any, Task, int], float]) -> Contender:
    def contender(task: Task, steps: int) -> Trained:
        net = _pythae_vae(task)
        rate = train(net, task, steps)
        return Trained(rate, net, _left(VAE(Moments(net.encoder), Logits(net.decoder), Bernoulli(), LATENT)))

    return contender


def _vq_by(train: Callable[[Any, Task, int], float]) -> Contender:
    def contender(task: Task, steps: int) -> Trained:
        seeded(task)
        ours = residual_vq(Averaged().build(), (1, 1))
        config = VQVAEConfig(
            input_dim=(1, 28, 28), latent_dim=ours.quantiser.dim, num_embeddings=ours.quantiser.size, use_ema=True
        )
        net: Any = PythaeVQVAE(config, Encoder(ours), Decoder(ours))
        rate = train(net, task, steps)
        return Trained(rate, net, _missed(lambda x: 2 * net(DatasetOutput(data=(x + 1) / 2)).recon_x - 1))

    return contender


RECIPE, LOOP = "huggingvis, its recipe", "huggingvis, plain loop"
TRAINER, THEIR_LOOP = "pythae, its trainer", "pythae, plain loop"
VAES: dict[str, Contender] = {
    RECIPE: vae_recipe,
    LOOP: vae_loop,
    TRAINER: _vae_by(_pipeline),
    THEIR_LOOP: _vae_by(_their_loop),
}
VQ_VAES: dict[str, Contender] = {
    RECIPE: vq_recipe,
    LOOP: vq_loop,
    TRAINER: _vq_by(_pipeline),
    THEIR_LOOP: _vq_by(_their_loop),
}
