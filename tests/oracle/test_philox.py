"""Philox and CUDA's normal numbers beside published constants.

Where these come from: the words are the known answers of Random123 (D. E. Shaw Research, `tests/kat_vectors`). The
numbers are prints of runs on GPUs in public sources: seed 0, A1111's `modules/rng_philox.py`; seed 42, the example in
flashinfer's `LogitsPipe` and the inputs in a reproduction of a bug of torch.compile; seed 1234, a course's answer to
"set the GPU's seed to 1234". The sums of uniform numbers are what Triton's tutorial "Vector Addition" prints (seed 0,
two tensors of 98,432): on GPUs with a thread for each number, and on smaller ones, where the tail is another.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from huggingvis.core import philox
from huggingvis.core.philox import CudaStream, philox4x32

KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]  # fmt: skip
SEVEN_ROUNDS = (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers_of_random123(counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]) -> None:
    made = philox4x32(np.array(counter, np.uint32)[:, None], key)
    assert tuple(int(word) for word in made[:, 0]) == words


def test_known_answer_after_seven_rounds() -> None:
    made = philox4x32(np.zeros((4, 1), np.uint32), (0, 0), rounds=7)
    assert tuple(int(word) for word in made[:, 0]) == SEVEN_ROUNDS


def test_seed_0_as_the_web_ui_prints_it() -> None:
    told = [[-0.92466259, -0.42534415, -2.6438457, 0.14518388], [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
            [-1.07454231, -0.36314407, -1.67105067, 2.26550497]]  # fmt: skip
    assert np.abs(CudaStream(0).randn((3, 4)) - told).max() < 1e-6  # a GPU's sine and logarithm are rounded elsewhere


def test_seed_42_draw_after_draw() -> None:
    first = [[0.1940, 2.1614, -0.1721, 0.8491, -1.9244], [0.6530, -0.6494, -0.8175, 0.5280, -1.2753]]
    assert np.abs(CudaStream(42).randn((2, 5)) - first).max() < 6e-5
    stream = CudaStream(42)
    told = [[0.1940, 2.1614, -0.1721, 0.8491], [0.1391, -0.1082, -0.7174, 0.7566], [-0.5187, 1.2268, 0.6255, -0.9117],
            [-0.6974, -1.8688, -0.8832, -1.6627], [-1.2682, -0.0383, -0.1029, 1.4400],
            [1.4640, -0.3238, 0.7740, 1.5892]]  # fmt: skip
    for row in told:
        assert np.abs(stream.randn((4,)) - row).max() < 6e-5


def test_seed_1234() -> None:
    assert np.abs(CudaStream(1234).randn((3,)) - [-1.6165, 0.5685, -0.5102]).max() < 6e-5


@pytest.mark.parametrize(
    ("threads", "tail"),
    [
        (0, (0.6724, 1.2141, 0.9733)),  # the documentation's own print
        (68 * 1024, (1.1495, 0.9265, 1.1323)),  # an RTX 2080 Ti
        (58 * 1536, (0.9360, 1.3598, 0.3215)),  # a GPU with 58 multiprocessors
        (96 * 1024, (0.9584, 0.7074, 1.3011)),  # a GPU of AMD's
    ],
)
def test_order_of_large_tensors(monkeypatch: pytest.MonkeyPatch, threads: int, tail: tuple[float, ...]) -> None:
    """The kernel is the same for uniform numbers, u = word 2^-32 + 2^-33, one word for each."""
    scale = np.float32(2.3283064e-10)

    def uniform(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return tuple(word.astype(np.float32) * scale + scale / 2 for word in (a, b))  # type: ignore[return-value]

    monkeypatch.setattr(philox, "box_muller", uniform)
    stream = CudaStream(0, threads)
    sums = stream.randn((98432,)) + stream.randn((98432,))
    assert np.abs(sums[:3] - [1.3713, 1.3076, 0.4940]).max() < 1e-4
    assert np.abs(sums[-3:] - tail).max() < 1e-4


def test_as_many_threads_as_numbers_is_the_usual() -> None:
    assert (CudaStream(3).randn((4, 64, 64)) == CudaStream(3, 82 * 1536).randn((4, 64, 64))).all()
    few, all_ = CudaStream(3, 8192), CudaStream(3)
    a, b = few.randn((4, 64, 64)), all_.randn((4, 64, 64))
    assert (a.reshape(-1)[:8192] == b.reshape(-1)[:8192]).all() and (a.reshape(-1)[8192:] != b.reshape(-1)[8192:]).all()


def test_place_is_counted_in_calls() -> None:
    """A tensor that needs three calls of each thread moves the place by three, as PyTorch's offset by twelve."""
    stream = CudaStream(0, 256)
    stream.randn((256 * 4 * 2 + 1,))
    assert stream.place == 3


def test_seeds_of_64_bits() -> None:
    assert (CudaStream(2**32).randn((8,)) != CudaStream(0).randn((8,))).all()
    assert (CudaStream(-1).randn((8,)) == CudaStream(2**64 - 1).randn((8,))).all()
    assert CudaStream(5).randn((0, 3)).shape == (0, 3)


def test_they_are_normal() -> None:
    x = np.concatenate([CudaStream(7, 2048).randn((60_000,)), CudaStream(8).randn((60_000,))])
    assert stats.kstest(x, "norm").pvalue > 0.001
    assert abs(x.mean()) < 4 / math.sqrt(len(x)) and abs(x.std() - 1) < 0.01
