r"""Philox 4x32-10 and the normal numbers that CUDA makes of it: a GPU's `torch.randn` on any machine, without torch.

Salmon, Moraes, Dror & Shaw 2011, "Parallel Random Numbers: As Easy as 1, 2, 3" (SC'11), Sec. 3.3: ten rounds of

    (L0, R0), (L1, R1)  ->  hi(M1 L1) ^ R0 ^ k0, lo(M1 L1), hi(M0 L0) ^ R1 ^ k1, lo(M0 L0)

on a counter of four words, the key growing by a Weyl constant from round to round. curand's state has the low 64 bits
of the counter for the place in a thread's own sequence and the high ones for the thread. PyTorch's kernel gives thread
i the numbers i, i + n, i + 2n, i + 3n of a tensor, n threads in all, from one call each: two Box-Muller pairs. As long
as there is a thread for every number only the first of the four is used, which is all that A1111's "NV" source and
stable-diffusion.cpp know. Book: chapter 6, "Seeds".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_M = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_INV = float(np.float32(2.3283064e-10))
"""curand's 2^-32, as the float it is."""
_TURN = float(np.float32(np.float32(2.3283064e-10) * np.float32(6.2831855)))
BLOCK = 256
"""Threads of a block of PyTorch's kernel."""
_FOUR = 4
"""Numbers that one call of curand's normal generator makes, and by which PyTorch counts its place in a sequence."""


def philox4x32(counter: Words, key: tuple[int, int], rounds: int = 10) -> Words:
    """Four random words for each of the counters [4, N], under a key of two words: [4, N]."""
    c0, c1, c2, c3 = (row.astype(np.uint64) for row in counter)
    k0, k1 = key
    for _ in range(rounds):
        left, right = c0 * _M[0], c2 * _M[1]  # 64 bits each
        c0, c2 = (right >> _HALF) ^ c1 ^ np.uint64(k0), (left >> _HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = right & _LOW, left & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3]).astype(np.uint32)


def box_muller(a: Words, b: Words) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two normal numbers of two words, in curand's order: the sine's first."""
    u = a * _INV + _INV / 2
    angle = b * _TURN + _TURN / 2
    length = np.sqrt(-2.0 * np.log(u))
    return (length * np.sin(angle)).astype(np.float32), (length * np.cos(angle)).astype(np.float32)


@final
@dataclass
class CudaStream:
    """What `torch.randn(..., device="cuda")` gives after `manual_seed(seed)`, call after call.

    Attributes:
        seed: of 64 bits; negative ones are counted from 2^64, as torch does.
        threads: of the GPU that are resident at once (multiprocessors times threads of each); 0: one for every number.
            It decides only tensors with more numbers than threads.
        place: how far each thread's sequence has been read, in calls.
    """

    seed: int
    threads: int = 0
    place: int = 0

    def randn(self, shape: Sequence[int]) -> NDArray[np.float32]:
        """The next tensor of N(0, 1) numbers, float32."""
        n = math.prod(shape)
        if n == 0:
            return np.zeros(shape, np.float32)
        needed = -(-n // BLOCK) * BLOCK
        threads = min(self.threads // BLOCK * BLOCK or needed, needed)
        calls = -(-n // (threads * _FOUR))
        out = np.concatenate([self._call(threads, self.place + k, n - k * threads * _FOUR) for k in range(calls)])
        self.place += calls
        return out.reshape(shape)

    def _call(self, threads: int, place: int, left: int) -> NDArray[np.float32]:
        """What one call of every thread gives, in the tensor's order, of which `left` numbers are wanted."""
        counter = np.zeros((4, threads), np.uint32)
        counter[0], counter[1] = place & 0xFFFFFFFF, place >> 32
        counter[2] = np.arange(threads, dtype=np.uint32)
        bits = self.seed & 0xFFFFFFFFFFFFFFFF
        words = philox4x32(counter, (bits & 0xFFFFFFFF, bits >> 32))
        pairs = [box_muller(words[i], words[i + 1]) for i in ((0, 2) if left > 2 * threads else (0,))]
        return np.concatenate([number for pair in pairs for number in pair])[:left]
