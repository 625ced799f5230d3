"""Our Inception v3 against pytorch-fid's, and the distance of two folders against its.

`inception.npz` holds what pytorch-fid 0.3.0 with torchvision 0.29.2 gave on the CPU for the weights and pictures that
`inception_file` makes again: every eighth feature of each picture, and FID by its own square root of a matrix. Only
these numbers were taken.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from inception_file import save_pictures, tensors
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import huggingvis as hv
from huggingvis.checkpoints.inspect import families_in, identify, inspect
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.nets.inception import InceptionV3
from huggingvis.recipes.folder_distance import FolderDistance, look, notes
from huggingvis.systems.judges.inception import FILE, SHA256, bind, keymap

GOLDEN = Path(__file__).with_name("inception.npz")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights as a .pth, and the folders of pictures."""
    folder = tmp_path_factory.mktemp("fid")
    torch.save(tensors(), folder / "inception.pth")
    save_pictures(folder)
    return folder


def shown(path: Path) -> Tensor:
    with Image.open(path) as image:
        pixels = np.asarray(image).reshape(image.height, image.width, -1).transpose(2, 0, 1)
    return torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1)[None]  # grey stays grey


@torch.no_grad()
def features(net: InceptionV3, folder: Path) -> Tensor:
    return torch.cat([net(shown(path)) for path in sorted(folder.glob("*.png"))])


def test_features_are_those_of_pytorch_fid(place: Path) -> None:
    net = bind(place / "inception.pth")
    with np.load(GOLDEN) as golden:
        for name in "ab":
            found, want = features(net, place / name), torch.from_numpy(golden[name])
            assert found.shape == (3, 2048)
            assert float((found[:, ::8] - want).abs().max()) < 2e-6 * float(want.abs().max())


@pytest.mark.parametrize("at", ["mixed_5c", "mixed_7b", "mixed_7c"])
def test_the_pools_of_this_variant_matter(place: Path, at: str) -> None:
    """With the pool of the paper's network in one block the features are others, a thousand times further off."""
    net = bind(place / "inception.pth")
    pooled = net.get_submodule(f"layers.{at}.branches.3")
    assert isinstance(pooled, nn.Sequential)
    pooled[0] = nn.AvgPool2d(3, stride=1, padding=1)
    with np.load(GOLDEN) as golden, torch.no_grad():
        off = net(shown(place / "a" / "0.png"))[0, ::8] - torch.from_numpy(golden["a"][0])
        assert float(off.abs().max()) > 2e-3 * float(golden["a"].max())


def test_fid_is_that_of_pytorch_fid_and_kid_comes_with_it(place: Path) -> None:
    found = hv.evaluate(place / "a", FolderDistance(place / "b", place / "inception.pth"), device="cpu")
    with np.load(GOLDEN) as golden:
        assert found.record["fid"] == pytest.approx(float(golden["fid"]), rel=1e-5)
    kid = found.record["kid"]
    assert kid["low"] <= kid["value"] <= kid["high"] and kid["n"] == 3
    assert [folder["n"] for folder in found.record["folders"]] == [3, 3]
    assert any("SHA-256" in note for note in found.notes) and any("1 / n" in note for note in found.notes)
    again = hv.evaluate(place / "a", FolderDistance(place / "a", place / "inception.pth"), device="cpu")
    assert again.record["fid"] < 1e-6


def test_of_many_pictures_moments_are_kept_and_evenly_spaced_features(tmp_path: Path) -> None:
    levels = [3 * i for i in range(61)]
    for i, level in enumerate(levels):
        Image.new("RGB", (2, 2), (level, 0, 255)).save(tmp_path / f"{i:02d}.png")
    seen: list[int] = []
    files = sorted(tmp_path.iterdir())
    found = look(files, lambda x: x.mean((2, 3)), torch.device("cpu"), seen.append, kept=4)
    red = torch.tensor(levels).double() / 127.5 - 1
    assert seen == [50, 61] and found.moments.n == 61
    assert torch.allclose(found.moments.mean, torch.stack([red.mean(), torch.tensor(-1.0), torch.tensor(1.0)]).double())
    assert float(found.moments.covariance[0, 0]) == pytest.approx(float(red.var()), rel=1e-5)
    assert torch.allclose(found.features[:, 0], red[[0, 15, 30, 45]], atol=1e-6)


def test_the_file_in_other_forms_and_other_files(place: Path, tmp_path: Path) -> None:
    theirs = {name: x for name, x in tensors().items() if not name.endswith("num_batches_tracked")}
    save_file(theirs, tmp_path / "inception.safetensors")
    net = bind(tmp_path / "inception.safetensors")
    assert all(torch.equal(x, net.state_dict()[name]) for name, x in bind(place / "inception.pth").state_dict().items())
    back = keymap().to_theirs(net.state_dict())
    assert back.keys() == {name for name in theirs if not name.startswith("fc.")}

    from huggingvis import systems

    family = identify(inspect(tmp_path / "inception.safetensors").tensors, families_in(systems))
    assert family is not None and family.name == "FID inception"

    wrong = {
        "torchvision": (theirs | {"fc.weight": torch.zeros(1000, 2048)}, f"torchvision's Inception v3.*{FILE}"),
        "other": ({"weight": torch.zeros(2)}, "not the Inception v3 that FID is told with: Conv2d_1a"),
        "part": ({k: x for k, x in theirs.items() if "6c.branch1x1" not in k}, "4 missing|5 missing"),
    }
    for name, (content, message) in wrong.items():
        save_file(content, tmp_path / f"{name}.safetensors")
        with pytest.raises(FileProblem, match=message):
            bind(tmp_path / f"{name}.safetensors")


def test_without_the_file_it_is_said_what_to_give(place: Path) -> None:
    with pytest.raises(UsageError, match=f"--inception FILE: {FILE}, 95,628,359 bytes"):
        hv.evaluate(place / "a", FolderDistance(place / "b", None), device="cpu")


def test_a_damaged_picture_is_named_and_unequal_folders_are_noted(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    with pytest.raises(FileProblem, match="bad.png cannot be measured: .*Repair or remove it"):
        look(sorted(tmp_path.iterdir()), lambda x: x.mean((2, 3)), torch.device("cpu"), print)
    assert any("hold 3,000 and 2,500 pictures" in note for note in notes(3000, 2500, SHA256))
    assert len(list(notes(5000, 5000, SHA256))) == 1
