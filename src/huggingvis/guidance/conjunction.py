r"""Several prompts at once: composable diffusion, the AND of a prompt.

Liu, Li, Du, Torralba, Tenenbaum 2022 (arXiv 2206.01714), Sec. 4.2 and Eq. 11: what is asked by c_1 and c_2 and ... at
once, each independent of the others given the picture, has the score of a product of experts; on beliefs, with
guidance of scale w and a weight w_i for each,

    x_0 = x_0^neg + w sum_i w_i (x_0(c_i) - x_0^neg)

A negative w_i is the paper's NOT. Noised, the product of laws is not the law of the product; it is where every c_i
speaks of components of its own. One prompt of weight 1 is classifier-free guidance. Book: chapter 6, "What a prompt can
say".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.protocols import Cond, Denoiser
from huggingvis.core.shapes import expand
from huggingvis.guidance.by_step import AND
from huggingvis.guidance.cfg import NEGATIVE, negative_of, rescaled, stacked

SYSTEM = {
    "name": "Composable diffusion",
    "chapter": 6,
    "paper": "2206.01714",
    "files": ["systems/prompt_plan.py"],
    "built": "tests/walks/test_prompt_walks.py::test_and_is_composable_diffusion",
    "exact": [
        "tests/oracle/test_conjunction.py::test_it_is_the_plain_sum",
        "tests/oracle/test_conjunction.py::test_prompts_of_components_of_their_own_draw_the_joint_law",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class Conjunction:
    """`weights` w_i of the prompts: the first under the condition's own names, the others under `and.1.`, `and.2.` ...

    `scale`, `rescale` and `interval` as in `ClassifierFree`; where guidance does not act, the scale is 1. One call of
    1 + n batches.
    """

    weights: tuple[float, ...]
    scale: float
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __call__(self, denoise: Denoiser) -> Denoiser:
        def guided(x: Tensor, t: Tensor, cond: Cond) -> Belief:
            plain = {k: v for k, v in cond.items() if not k.startswith(AND)}
            batch = dict(negative_of(plain))
            for n in range(len(self.weights)):
                batch = stacked(batch, self._prompt(n, cond))
            calls = 1 + len(self.weights)
            times = t if t.ndim == 0 else torch.cat([t] * calls)
            belief = denoise(torch.cat([x] * calls), times, batch)
            if not isinstance(belief, Gaussian):
                raise TypeError(f"prompts are added up on numbers, found {type(belief).__name__}")
            away, *prompts = belief.x0.chunk(calls)
            to = sum((w * (x0 - away) for w, x0 in zip(self.weights, prompts, strict=True)), torch.zeros_like(away))
            acts = (t >= self.interval[0]) & (t <= self.interval[1])  # [] or [B]
            scale = torch.where(acts.to(x.device), self.scale, 1.0).to(to.dtype)
            made = replace(belief, x0=away + expand(scale, to) * to, logvar=None, v=None)
            return rescaled(made, replace(made, x0=away + to), self.rescale) if self.rescale > 0.0 else made

        return guided

    def _prompt(self, n: int, cond: Cond) -> dict[str, Tensor]:
        """What the net is told of prompt `n`."""
        own = {k: v for k, v in cond.items() if not k.startswith((NEGATIVE, AND))}
        place = f"{AND}{n}."
        return own | {k.removeprefix(place): v for k, v in cond.items() if n and k.startswith(place)}
