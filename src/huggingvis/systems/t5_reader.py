"""Prompts read by T5's encoder: tokens with a mask of what is text, as PixArt reads them.

Raffel et al. 2020 (arXiv 1910.10683). T5 stays as it was trained on text; the image model learns to look at its states.
Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.checkpoints.text_towers import from_transformers
from huggingvis.codecs.prompt_script import Reading
from huggingvis.codecs.t5_tokens import T5Tokens
from huggingvis.core.errors import FileProblem
from huggingvis.nets.t5 import T5Encoder
from huggingvis.systems.prompt_plan import pieces_of
from huggingvis.systems.prompt_reading import USUAL, Manner, emphasised, weight_rows


@final
@dataclass(frozen=True)
class T5Reader:
    """T5's encoder and its tokenizer.

    Attributes:
        tokens: the tokenizer.
        tower: the network.
        length: tokens read of a text, its end among them.
        spelt: how a text is written before it is read.
    """

    tokens: T5Tokens
    tower: T5Encoder
    length: int
    spelt: Callable[[str], str] = str
    options: tuple[str, ...] = ()

    @classmethod
    def load(
        cls, tower: Path, tokenizer: Path, length: int, dtype: torch.dtype | None, spelt: Callable[[str], str] = str
    ) -> T5Reader:
        """From the folders of the two. Raises `FileProblem`.

        In float16 T5's largest states overflow; what is asked for or stored so is computed in bfloat16.
        """
        net = from_transformers(tower, torch.bfloat16 if dtype == torch.float16 else dtype)
        if not isinstance(net, T5Encoder):
            raise FileProblem(f"{tower} holds a {type(net).__name__}, but this model reads by T5's encoder.")
        if net.token.weight.dtype == torch.float16:
            net = net.to(torch.bfloat16)
        tokens = T5Tokens.load(tokenizer)
        if tokens.size > net.token.num_embeddings:
            raise FileProblem(
                f"The tokenizer {tokenizer} has {tokens.size} tokens, but the text encoder {tower} knows "
                f"{net.token.num_embeddings}. They are not of one model; fetch both again."
            )
        return cls(tokens, net, length, spelt)

    @property
    def towers(self) -> Mapping[str, nn.Module]:
        return {"text_encoder": self.tower}

    def overflow(self, text: str) -> str:
        return self.tokens.overflow(self.spelt(text), self.length)

    @torch.no_grad()
    def read(self, readings: Sequence[Reading], how: Manner = USUAL) -> dict[str, Tensor]:
        rows = [pieces_of(reading, lambda text: self.tokens.pieces(self.spelt(text))) for reading in readings]
        ids, mask = self.tokens.rows([pieces for pieces, _ in rows], self.length)  # [B, L]
        weights = weight_rows([own for _, own in rows], self.length)
        weights[:, -1] = 1.0  # the end, if nothing else
        device = self.tower.token.weight.device
        ids, mask = ids.to(device), mask.to(device)
        read = self.tower(ids, mask)
        return {"tokens": emphasised(read, weights, how.emphasis, restored=False), "tokens_mask": mask}
