"""Official StyleGAN2 and StyleGAN3 files: read for their tensors, bound to our networks, and never executed."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_pickles import ALIAS_FREE, SIZES, Persistent, alias_free_file, official_file
from official_pickles import official as official  # a fixture of every test here

import huggingvis as hv
from huggingvis.api import load
from huggingvis.checkpoints.persistent_pickle import Record, load_networks, network
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.request import Canvas, Request
from huggingvis.edits.exploring import exploration
from huggingvis.edits.generate import generate
from huggingvis.nets.layer_noise import StoredNoise
from huggingvis.nets.pggan import minibatch_deviation
from huggingvis.nets.stylegan3_sizes import Filtering, StyleGAN3Sizes
from huggingvis.systems import stylegan, stylegan2, stylegan3


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_an_official_file_loads_to_the_same_networks(tmp_path: Path, protocol: int) -> None:
    path, net, critic = official_file(tmp_path / "ffhq.pkl", protocol)
    read = stylegan2.generator(path)
    assert [(k, v.shape) for k, v in read.state_dict().items()] == [(k, v.shape) for k, v in net.state_dict().items()]
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in read.state_dict().items())
    z = torch.randn(2, 5)
    x = net(z, None, StoredNoise())
    assert torch.equal(read(z, None, StoredNoise()), x)
    assert torch.equal(stylegan2.discriminator(path)(x), critic(x))
    settings = load_networks(path)["training_set_kwargs"]
    assert settings["resolution"] == 16 and settings["mean"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_an_official_file_generates(tmp_path: Path) -> None:
    path, _, _ = official_file(tmp_path / "ffhq.pkl")
    system = stylegan2.bind(path, psi=0.0)
    pictures = generate(system, Request(canvas=Canvas(count=2)))
    assert [p.size for p in pictures] == [(16, 16), (16, 16)] and system.spec.name == "ffhq"
    by_path = generate(load(path), Request(canvas=Canvas(count=2)))
    assert by_path[0].pixels.shape == (16, 16, 3) and not np.array_equal(by_path[0].pixels, pictures[0].pixels)
    with pytest.raises(UsageError, match="16"):
        generate(system, Request(canvas=Canvas(width=32, height=32)))


def test_grey_pictures_and_a_spread_over_the_whole_batch(tmp_path: Path) -> None:
    path, net, critic = official_file(
        tmp_path / "grey.pkl", changed={"mbstd": {"group_size": None}}, sizes=replace(SIZES, channels=1)
    )
    assert stylegan2.bind(path).spec.channels == 1
    x = net(torch.randn(6, 5), None, StoredNoise())
    read = stylegan2.discriminator(path)
    assert read.head.group is None and torch.equal(read(x), critic(x))
    h = torch.randn(6, 10, 4, 4)
    assert torch.equal(minibatch_deviation(h, None), minibatch_deviation(h, 6))
    assert not torch.equal(minibatch_deviation(h, None), minibatch_deviation(h, 4))


@pytest.mark.parametrize(
    ("part", "state", "said"),
    [
        ("mapping", {"z_dim": None}, "'z_dim' from 1 to 65536, but holds None"),
        ("mapping", {"z_dim": "5"}, "'z_dim' from 1 to 65536, but holds '5'"),
        ("mapping", {"w_dim": 10**5000}, "'w_dim' .* more than 12 digits"),
        ("mapping", {"w_dim": 60000}, "does not fit the sizes it states"),
        ("mapping", {"c_dim": -1}, "'c_dim' from 0"),
        ("mapping.fc0", {"bias_gain": float("nan")}, "'bias_gain' .* holds nan"),
        ("synthesis.b16.conv1", {"conv_clamp": [1]}, "'conv_clamp' .* a list"),
        ("synthesis.b16.torgb", {"_parameters": {}}, "tensor 'synthesis.b16.torgb.bias' .* found none"),
        ("synthesis.b16.torgb", {"_parameters": {"bias": torch.zeros(())}}, r"of shape \[\]"),
        ("synthesis.b16.torgb", {"_parameters": {"bias": torch.zeros(4)}}, "channel.*found 4"),
        ("synthesis.b16", {"architecture": 10**5000}, "architecture a number of more"),
        ("mbstd", {"num_channels": 2}, "mbstd_num_channels.* found 2"),
        ("mbstd", {"group_size": 0}, "'group_size' from 1"),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_made(
    tmp_path: Path, part: str, state: dict[str, Any], said: str
) -> None:
    usual = {"group_size": 2} if part == "mbstd" else {}
    path, _, _ = official_file(tmp_path / "absurd.pkl", changed={part: usual | state})
    with pytest.raises(FileProblem, match=said):
        stylegan2.discriminator(path) if part == "mbstd" else stylegan2.generator(path)


def test_records_are_inert(tmp_path: Path) -> None:
    path, _, _ = official_file(tmp_path / "ffhq.pkl")
    record = network(path)
    assert type(record) is Record and record.kind == "Generator" and record.child("mapping").kind == "mapping"
    with pytest.raises(FileProblem, match="no part 'b4'"):
        record.child("b4")
    with pytest.raises(UsageError, match="no network in .* called 'G_emma'.*'G_ema'"):
        network(path, "G_emma")


def test_another_kind_of_network_is_refused(tmp_path: Path) -> None:
    path, _, _ = official_file(tmp_path / "resnet.pkl", changed={"synthesis.b16": {"architecture": "resnet"}})
    with pytest.raises(FileProblem, match="architecture 'resnet'.*'skip'"):
        stylegan2.generator(path)
    alias_free = Persistent("Generator", {"_modules": {"synthesis": Persistent("S", {"_modules": {}})}})
    path.write_bytes(pickle.dumps({"G_ema": alias_free}))
    with pytest.raises(FileProblem, match="no StyleGAN2 synthesis"):
        stylegan2.generator(path)
    with pytest.raises(
        FileProblem, match="neither a generator of StyleGAN2, .* 'b4', nor one of StyleGAN3, .* 'input'"
    ):
        load(path)


RADIAL = replace(ALIAS_FREE, filtering=Filtering(1, radial=True, clamp=None), classes=0)


@pytest.mark.parametrize("sizes", [ALIAS_FREE, RADIAL], ids=["T, conditional", "R"])
def test_an_alias_free_file_loads_to_the_same_generator(tmp_path: Path, sizes: StyleGAN3Sizes) -> None:
    path, net = alias_free_file(tmp_path / "afhq.pkl", sizes)
    read = stylegan3.generator(path)
    assert stylegan3.generator_sizes(network(path)) == sizes
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in read.state_dict().items())
    z, label = torch.randn(2, 5), torch.eye(3)[:2] if sizes.classes else None
    assert torch.equal(read(z, label, StoredNoise()), net(z, label, StoredNoise()))


def test_an_alias_free_file_generates_and_is_explored(tmp_path: Path) -> None:
    """The verbs of StyleGAN2: nothing in them knows which synthesis paints."""
    path, _ = alias_free_file(tmp_path / "afhq.pkl")
    system = load(path)
    assert (system.spec.family, system.spec.size) == ("stylegan3", (16, 16))
    pictures = generate(system, Request(canvas=Canvas(count=2)))
    assert len({p.pixels.tobytes() for p in pictures}) == 2 and pictures[0].size == (16, 16)
    middle = generate(stylegan.bind(path, psi=0.0), Request(canvas=Canvas(count=2)))
    assert np.array_equal(middle[0].pixels, middle[1].pixels)
    for verb in ("mix", "truncation", "interpolate"):
        assert exploration(verb)()(system, ()).tiles.pictures[0].size == (16, 16)
    found = [hv.explore("invert", system, pictures[:1], numbers={"steps": n})[1] for n in (1, 20)]
    first, later = (one.record["psnr_db"][0] for one in found)
    assert later > first + 3


@pytest.mark.parametrize(
    ("part", "state", "said"),
    [
        ("synthesis", {"img_resolution": 24}, "power of 2, found 24"),
        ("synthesis", {"img_channels": 4}, "channel.*found 4"),
        ("synthesis", {"num_layers": 10**6}, "'num_layers' from 2 to 64"),
        ("synthesis", {"num_critical": 9}, "found 9 of 4"),
        ("synthesis", {"margin_size": 3}, "no part 'L0_22_6'"),
        ("settings", {"first_cutoff": float("nan")}, "'first_cutoff' .* holds nan"),
        ("settings", {"first_stopband": 1.0}, "each stopband lies above its cutoff"),
        ("settings", {"use_radial_filters": 1}, "true or false, but holds 1"),
        ("settings", {"use_radial_filters": True}, "does not fit the sizes it states"),
        ("settings", {"filter_size": 4}, "does not fit the sizes it states"),
        ("settings", {"first_cutoff": 1.5}, "should have bandwidth 1.5, .* but has 2"),
        ("mapping", {"w_dim": 60000}, "does not fit the sizes it states"),
        ("synthesis.L1_20_4", {"out_cutoff": 7.0}, "should have out_cutoff 4, .* but has 7"),
        ("synthesis.L0_20_6", {"conv_clamp": "x"}, "'conv_clamp' .* holds 'x'"),
    ],
)
def test_absurd_alias_free_sizes_are_refused(tmp_path: Path, part: str, state: dict[str, Any], said: str) -> None:
    path, _ = alias_free_file(tmp_path / "absurd.pkl", changed={part: state})
    with pytest.raises(FileProblem, match=said):
        load(path)
