"""Retrieval-augmented diffusion: exact neighbours, whose order does not count, without which it is unconditional."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.core.classes import ANY
from huggingvis.core.diffusion import Diffusion, NetDenoiser
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.process import Eps
from huggingvis.core.protocols import Cond
from huggingvis.core.request import Request
from huggingvis.data.neighbours import Memory, nearest
from huggingvis.guidance.cfg import ClassifierFree
from huggingvis.nets.unet import UNet, UNetConfig
from huggingvis.objectives.retrieval import neighbours, tokens_of
from huggingvis.processes.vp import CosineVP
from huggingvis.recipes.diffusion import rdm
from huggingvis.recipes.picture_training import begin, open_pictures
from huggingvis.recipes.pictures import Pictures, View
from huggingvis.recipes.retrieval import Databases, Index, Retrieving, codes_of, features_by_name, features_of
from huggingvis.recipes.setting import Setting
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.names import schedule_of

CPU = torch.device("cpu")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def brute_force(queries: Tensor, codes: Tensor, k: int, skip: np.ndarray) -> np.ndarray:
    """Every distance, sorted."""
    far = np.linalg.norm(queries.numpy()[:, None] - codes.numpy()[None], axis=-1)  # [Q, N]
    far[np.arange(len(far))[skip >= 0], skip[skip >= 0]] = np.inf
    return far.argsort(1, kind="stable")[:, :k]


@pytest.mark.parametrize("block", [1, 7, 64, 4096])
@pytest.mark.parametrize("k", [0, 1, 5, 40])
def test_neighbours_are_those_of_brute_force(k: int, block: int) -> None:
    codes, queries = normal(41, 6), normal(23, 6, seed=1)
    skip = torch.arange(23) - 3  # the first three count none out
    for out in (None, skip):
        expected = brute_force(queries, codes, k, np.full(23, -1) if out is None else skip.numpy())
        assert np.array_equal(nearest(queries, codes, k, skip=out, block=block).numpy(), expected)


def test_a_picture_is_not_its_own_neighbour() -> None:
    codes = normal(30, 4)
    assert torch.equal(nearest(codes, codes, 1).flatten(), torch.arange(30))
    near = nearest(codes, codes, 29, skip=torch.arange(30))
    assert not bool((near == torch.arange(30)[:, None]).any())
    with pytest.raises(UsageError, match="30 neighbours were asked for, .* there are 30 .* its own neighbour"):
        nearest(codes, codes, 30, skip=torch.arange(30))


def net(width: int = 6) -> UNet:
    torch.manual_seed(0)
    sizes = UNetConfig(
        1, 1, channels=(8, 16), blocks=1, attention=(0, 1), middle=1, heads=2, groups=4, tokens_dim=width
    )
    return UNet(sizes).double().eval()


def asked(unet: UNet, cond: Cond) -> Tensor:
    with torch.no_grad():
        return unet(normal(3, 1, 8, 8), torch.tensor([0.1, 0.5, 0.9]), cond)


def test_the_order_of_neighbours_does_not_count() -> None:
    """A sum over tokens in another order: equal to float64's rounding; other neighbours are another picture."""
    unet, near = net(), normal(3, 5, 6, seed=2)
    told = torch.ones(3, dtype=torch.bool)
    one = asked(unet, neighbours({"neighbours": near, "told": told}))
    other = asked(unet, neighbours({"neighbours": near[:, torch.tensor([3, 0, 4, 2, 1])], "told": told}))
    assert float((one - other).abs().max()) < 1e-13
    assert float((one - asked(unet, neighbours({"neighbours": -near, "told": told}))).abs().max()) > 1e-3


def test_without_neighbours_it_is_unconditional() -> None:
    """k = 0 is what an example left out for guidance is, whatever was found for it."""
    unet, near = net(), normal(3, 5, 6, seed=2)
    none = asked(unet, neighbours({"neighbours": near[:, :0], "told": torch.ones(3, dtype=torch.bool)}))
    left_out = asked(unet, neighbours({"neighbours": near, "told": torch.tensor([False, True, False])}))
    apart = (none - left_out).abs().amax((1, 2, 3))
    assert float(apart[0]) < 1e-13 and float(apart[2]) < 1e-13 and float(apart[1]) > 1e-3


def test_one_net_draws_what_each_database_holds() -> None:
    """Without neighbours two databases give the same samples, whatever the guidance; with neighbours they differ."""
    denoise = NetDenoiser(net(), CosineVP(), Eps())
    found = {}
    for seed in (0, 1):
        for k in (0, 3):
            for scale in (1.0, 4.0):
                guidance = (ClassifierFree(scale),)
                plain = Diffusion(denoise, CosineVP(), (1, 8, 8), DDIM(), schedule_of("uniform", 3), guidance)
                model = Retrieving(plain, Memory(normal(9, 6, seed=seed)), k, CPU)
                with torch.no_grad():
                    found[seed, k, scale] = model.sample(2, {}, noise=SeedNoise([5, 6]))
    for scale in (1.0, 4.0):
        torch.testing.assert_close(found[0, 0, 1.0], found[1, 0, scale], rtol=0, atol=1e-5)
        assert float((found[0, 3, scale] - found[1, 3, scale]).abs().max()) > 1e-2
    assert float((found[0, 3, 1.0] - found[0, 3, 4.0]).abs().max()) > 1e-2


class MeanOfNeighbours:
    """Believes in the sum of the tokens over how many neighbours there are: exact where pictures are their codes."""

    def __call__(self, x: Tensor, t: Tensor, cond: Cond) -> Gaussian:
        tokens, mask = cond["tokens"], cond.get("tokens_mask")
        kept = tokens if mask is None else tokens * mask[..., None]
        count = torch.full((len(x), 1), tokens.shape[1]) if mask is None else mask.sum(1, keepdim=True)
        return Gaussian((kept.sum(1) / (count - 1).clamp(min=1)).to(x))


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_sample_is_made_of_its_own_neighbours(scale: float) -> None:
    """Its query's nearest others in the database at hand, and guidance away from none of them: x_0 = w mean."""
    plain = Diffusion(
        MeanOfNeighbours(), CosineVP(), (5,), DDIM(), schedule_of("uniform", 4), (ClassifierFree(scale),), CPU
    )
    seeds = range(40)
    u = torch.special.ndtr(SeedNoise(seeds).draw(torch.empty(40, 1, dtype=torch.float64))).flatten()
    for database in (normal(12, 5), normal(30, 5, seed=4) + 7):
        samples = Retrieving(plain, Memory(database), 3, CPU).sample(40, {}, noise=SeedNoise(seeds))
        rows = (u * len(database)).long()
        near = brute_force(database[rows], database, 3, rows.numpy())
        torch.testing.assert_close(samples.double(), scale * database[near].mean(1), rtol=0, atol=1e-5)


def test_queries_are_uniform_and_of_the_class_asked_for() -> None:
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    memory = Memory(normal(6, 3), labels, ("cat", "dog", "eel", "fox"))
    assert memory.drawn((torch.arange(6) + 0.5) / 6).tolist() == [0, 1, 2, 3, 4, 5]
    u = torch.tensor([0.0, 0.34, 0.99, 0.99, 0.1, 0.999])
    wanted = torch.tensor([0, 0, 0, 1, 2, ANY])
    assert memory.drawn(u, wanted).tolist() == [0, 2, 5, 4, 3, 5]
    with pytest.raises(UsageError, match="No picture of the database is a 'fox'"):
        memory.drawn(u, torch.full((6,), 3))


def test_what_a_picture_looks_at_in_training(tmp_path: Path) -> None:
    """The nearest of a database of some of the pictures, never itself, and nothing for the share that is left out."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{i:02d}.png")
    config = rdm.Config(data=f"folder:{tmp_path}", size=8, entries=9, neighbours=3, features="pixels", empty=0.5)
    source, look = open_pictures(config), features_by_name("pixels", CPU)
    run = begin(Setting(tmp_path / "run"), "rdm", config, source)
    sets, index = rdm.surrounded(config, run, source, look)
    assert torch.equal(index.features, features_of(source.training.some(9), look))
    assert torch.equal(Index.load(run.path / rdm.INDEX).features, index.features)
    codes = codes_of(index.features, index.centre)
    told = []
    for name, among, itself in (("training", sets.training, 9), ("held_out", sets.held_out, 0)):
        pictures: Pictures = getattr(source, name)
        far = torch.cdist(codes_of(features_of(pictures, look), index.centre).double(), codes.double())
        far[far < 0.1] = torch.inf
        assert int(far.isinf().sum()) == itself
        near = codes[far.argsort(1)[:, :3]]  # [N, 3, D]
        for number in range(3):
            batch = among.batch(number, 8)
            assert torch.equal(batch["neighbours"], near[torch.from_numpy(pictures.places(number, 8))])
            told.append(batch["told"])
    assert 4 <= int(torch.cat(told[:3]).sum()) <= 20 and bool(torch.cat(told[3:]).all())


def test_tokens_begin_with_nothing() -> None:
    near = normal(2, 3, 4)
    tokens = tokens_of(near)
    assert tokens.shape == (2, 4, 4) and float(tokens[:, 0].abs().max()) == 0 and torch.equal(tokens[:, 1:], near)
    mask = neighbours({"neighbours": near, "told": torch.tensor([True, False])})["tokens_mask"]
    assert mask.tolist() == [[True] * 4, [True, False, False, False]]


def test_codes_are_directions_from_the_centre_and_files_keep_them(tmp_path: Path) -> None:
    features = normal(20, 7).float() + 3
    index = Index(features, torch.arange(20) % 2, ("a", "b"), "mnist", "pixels")
    codes = index.memory(index.centre).codes
    assert torch.allclose(codes.square().sum(1), torch.full((20,), 7.0))
    assert torch.allclose(codes_of(features * 2, index.centre * 2), codes, atol=1e-5)
    assert codes_of(features, torch.zeros(7)).sum() > 20 * codes.sum().abs()
    index.save(tmp_path / "x.safetensors")
    again = Index.load(tmp_path / "x.safetensors")
    assert torch.equal(again.features, features) and again.labels is not None and again.labels.tolist()[:3] == [0, 1, 0]
    assert (again.classes, again.data, again.look) == (("a", "b"), "mnist", "pixels")
    other = Index(normal(9, 7, seed=3).float() - 2, None, (), "dots", "pixels")
    other.save(tmp_path / "z.safetensors")
    databases = Databases(index, View(), "", lambda: features_by_name("pixels", CPU))
    found = databases(Request(options={"database": str(tmp_path / "z.safetensors")})).codes
    assert torch.equal(found, codes_of(other.features, index.centre))  # seen from where the training's were
    from safetensors.torch import save_file

    save_file({"other": features}, tmp_path / "y.safetensors")
    with pytest.raises(FileProblem, match="is no database of pictures"):
        Index.load(tmp_path / "y.safetensors")
