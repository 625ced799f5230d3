"""What several test files share: a small model folder with random weights, and the command line in this process."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Said:
    """What a call of the command line left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document it must be."""
        return json.loads(self.out)

    @property
    def paragraph(self) -> str:
        """Standard error without its line breaks."""
        return " ".join(self.err.split())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", type=Path, help="write outcome and seconds of every test to this JSON file")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """With `--record FILE`: what ran, on what machine, how it ended, so that the last slow run can be committed."""
    target = config.getoption("--record")
    if target is None:
        return
    from huggingvis.core.machine import cores, machine, versions

    tests = {
        report.nodeid: {"outcome": outcome, "seconds": round(report.duration, 1)}
        for outcome in ("passed", "failed", "skipped", "error")
        for report in terminalreporter.stats.get(outcome, [])
        if report.when == "call" or outcome != "passed"
    }
    told = {"command": "make test-slow", "machine": machine(cores()), "versions": versions(("pytest",)), "tests": tests}
    target.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def pytest_collection_finish() -> None:
    """What the collection left stays to the end: the collector of garbage need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """One thread of PyTorch for each fast test and for what it shares with others, whatever the test before it set.

    The networks of tests are so small that more threads only wait for each other, and for the other worker.
    """
    torch = sys.modules.get("torch")
    if torch is not None and item.get_closest_marker("slow") is None:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """A shell starts its background jobs deaf to ctrl-C; the tests that press it need to be heard."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def unsynced() -> Iterator[None]:
    """Files of tests need not outlive a power cut, and the disk takes milliseconds to promise it of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


Hvis = Callable[[Sequence[object]], Said]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of the packaged family with the smallest networks and random weights; not to be changed."""
    import torch

    from huggingvis.codecs.kl_latents import KLLatents
    from huggingvis.codecs.text import TextTokenizer
    from huggingvis.core.system import Spec
    from huggingvis.nets.autoencoder_kl import AutoencoderConfig, AutoencoderKL
    from huggingvis.nets.text_tower import TextTower, TextTowerConfig
    from huggingvis.nets.unet import UNet, UNetConfig
    from huggingvis.systems import tiny

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = TextTokenizer.learn(["a fox to the left of a pizza", "一只狐狸在披萨的左边"], vocabulary=80)
        tower = TextTower(TextTowerConfig(tokenizer.vocabulary, dim=16, depth=1, heads=2, mult=1, slots=2))
        autoencoder = AutoencoderKL(
            AutoencoderConfig(latent_channels=2, channels=(8, 8), blocks=1, extra=0, groups=4,
                              middle_attention=False, quant_conv=False, patch=2)
        )  # fmt: skip
        unet = UNet(
            UNetConfig(in_channels=2, out_channels=2, channels=(16, 16), blocks=1, attention=(0, 1), middle=0, heads=2,
                       tokens_dim=16, vector_dim=16, groups=4, clock_scale=1000.0)
        )  # fmt: skip
        for parameter in unet.parameters():  # layers that start at zero would hide the text
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("models") / "small"
    codec = KLLatents(autoencoder, torch.zeros(2), torch.ones(2))
    system = tiny.assemble(Spec("small", "tiny", (32, 32)), unet, codec, tiny.TinyConditioner(tokenizer, tower))
    tiny.save(folder, system, {"data": "random numbers"})
    return folder


@pytest.fixture
def hvis(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hvis:
    """`hvis([...words])` in this process, in an empty folder, with no user's preferences."""
    from huggingvis.app.cli import main

    here, settings = tmp_path / "here", tmp_path / "config.toml"
    here.mkdir()
    settings.write_text('device = "cpu"\n')
    monkeypatch.chdir(here)
    monkeypatch.setenv("HVIS_CONFIG", str(settings))
    monkeypatch.setenv("COLUMNS", "100")

    def call(words: Sequence[object]) -> Said:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Said(code, *capsys.readouterr())

    return call
