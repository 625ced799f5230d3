"""How files of textual inversions name their tensors; by names and shapes alone such a file is told from others.

Book: chapter 5, "Textual inversion".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from huggingvis.checkpoints.formats import TensorFact

TOWERS = ("clip_l", "clip_g")
BY_WIDTH = {768: "clip_l", 1024: "clip_h", 1280: "clip_g"}
"""Text towers by the width of their tokens."""
BUNDLE, PARAM = "bundle_emb.", "string_to_param"
LONGEST = 4096  # vectors; a prompt has room for 75
FILES = ("learned_embeds", "learned_embeds_2")
"""Names of diffusers' files, one for each tower."""
NOT_A_WORD = re.compile(r"(lora_|hada_|lokr_|\.(weight|bias|alpha|in_proj_weight)$)")


def vectors_in(tensors: Mapping[str, TensorFact]) -> dict[str, tuple[int, int]]:
    """Name -> (number of vectors, width) of the embeddings among `tensors`, as far as shapes tell."""
    words = {name: fact.shape for name, fact in tensors.items() if not name.startswith("string_to_token.")}
    fine = {name: shape if len(shape) == 2 else (1, *shape) for name, shape in words.items() if len(shape) in (1, 2)}
    return {name: (n, width) for name, (n, width) in fine.items() if 0 < n <= LONGEST}


def is_table(tensors: Mapping[str, TensorFact]) -> bool:
    """Whether a file with these tensors is an embedding and nothing else."""
    names = set(tensors)
    if any(name.startswith((f"{PARAM}.", "string_to_token.")) for name in names):
        return True
    if not names or len(vectors_in(tensors)) != len(names):
        return False
    known = names <= set(TOWERS) or names in ({"emb_params"}, {""})
    words = not any(NOT_A_WORD.search(name) for name in names)
    widths = {width for _, width in vectors_in(tensors).values()}
    floats = all(fact.dtype in ("F64", "F32", "F16", "BF16") for fact in tensors.values())
    return floats and (known or (words and widths <= set(BY_WIDTH)))
