"""Key maps are bijections: every tensor goes across once, and comes back bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.transforms import ConvToLinear, Identity, Reverse, Split, Transpose
from huggingvis.core.errors import FileProblem


@dataclass(frozen=True)
class Case:
    keymap: KeyMap
    theirs: dict[str, tuple[int, ...]]
    ours: set[str]


def attention() -> Case:
    """A made-up encoder: fused attention, its transposed and convolutional layers, an index buffer to ignore."""
    keymap = KeyMap(
        [
            Rule("token.weight", "embeddings.wte"),
            Rule(
                tuple(f"layers.{{i}}.attn.{n}.{{leaf:word}}" for n in "qkv"), "h.{i}.qkv.{leaf:word}", Split(3, heads=2)
            ),
            Rule("layers.{i}.up.weight", "h.{i}.fc.w", Transpose()),
            Rule("layers.{i}.down.weight", "h.{i}.conv.weight", ConvToLinear()),
            Rule("layers.{i}.gate", ("h.{i}.gate_a", "h.{i}.gate_b"), Reverse(Split(2, dim=1))),
            Rule("head.{rest:path}", "lm.{rest:path}"),
        ],
        ignored=["h.{i}.position_ids"],
    )
    theirs = {"embeddings.wte": (7, 4), "lm.norm.0.weight": (4,), "h.1.position_ids": (9,)}
    ours = {"token.weight", "head.norm.0.weight"}
    for i in range(12):
        theirs |= {f"h.{i}.qkv.weight": (12, 4), f"h.{i}.qkv.bias": (12,), f"h.{i}.fc.w": (4, 8)}
        theirs |= {f"h.{i}.conv.weight": (4, 8, 1, 1), f"h.{i}.gate_a": (2, 3), f"h.{i}.gate_b": (2, 3)}
        ours |= {f"layers.{i}.attn.{n}.{leaf}" for n in "qkv" for leaf in ("weight", "bias")}
        ours |= {f"layers.{i}.up.weight", f"layers.{i}.down.weight", f"layers.{i}.gate"}
    return Case(keymap, theirs, ours)


def numbers(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def test_a_keymap_is_a_bijection() -> None:
    case = attention()
    theirs = numbers(case.theirs)
    ours = case.keymap.to_ours(theirs)
    assert ours.keys() == case.ours
    back = case.keymap.to_theirs(ours)
    del theirs["h.1.position_ids"]
    assert same(back, theirs) and same(case.keymap.to_ours(back), ours)
    total = sum(x.double().sum() for x in ours.values()) - sum(x.double().sum() for x in theirs.values())
    assert abs(float(total)) < 1e-9  # every number went across once


def test_transforms_do_what_they_say() -> None:
    fused = torch.arange(12.0).reshape(12, 1)
    q, k, v = Split(3).to_ours((fused,))
    assert (q.flatten().tolist(), v.flatten().tolist()) == ([0, 1, 2, 3], [8, 9, 10, 11])
    q, k, v = Split(3, heads=2).to_ours((fused,))
    assert (q.flatten().tolist(), k.flatten().tolist()) == ([0, 1, 6, 7], [2, 3, 8, 9])
    (joined,) = Reverse(Split(2, dim=1)).to_ours((torch.zeros(2, 3), torch.ones(2, 3)))
    assert joined.tolist() == [[0, 0, 0, 1, 1, 1]] * 2
    (turned,) = Transpose().to_ours((torch.arange(6).reshape(2, 3),))
    assert turned.tolist() == [[0, 3], [1, 4], [2, 5]] and turned.is_contiguous()
    (flat,) = ConvToLinear().to_ours((torch.ones(4, 8, 1, 1),))
    assert flat.shape == (4, 8) and ConvToLinear(1).to_theirs((flat,))[0].shape == (4, 8, 1)


def test_leftovers_and_wrong_layouts_are_reported() -> None:
    case = attention()
    theirs = numbers({**case.theirs, "vae.x": (1,), "h.x.fc.w": (1,)})
    with pytest.raises(FileProblem, match=r"2 of the checkpoint's tensors have no place.*vae.x, h.x.fc.w"):
        case.keymap.to_ours(theirs)
    ours, left = case.keymap.take(theirs)
    assert ours.keys() == case.ours and list(left) == ["vae.x", "h.x.fc.w"]
    del theirs["h.3.gate_b"]
    assert "h.3.gate_a" in case.keymap.take(theirs)[1]
    with pytest.raises(FileProblem, match=r"'h.0.conv.weight'.*\[4, 8, 3, 3\]"):
        case.keymap.to_ours(numbers({**case.theirs, "h.0.conv.weight": (4, 8, 3, 3)}))


def test_faulty_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="same placeholders"):
        Rule("a.{i}", "b.{j}")
    with pytest.raises(ValueError, match="joins 3 of our tensors to 1"):
        Rule("a", "b", Split(3))
    with pytest.raises(ValueError, match="kind 'digit'"):
        Rule("a.{i:digit}", "b.{i:digit}")
    with pytest.raises(ValueError, match=r"claim 'x\.1'"):
        KeyMap([Rule("a.{i}", "x.{i}"), Rule("b.{r:path}", "x.{r:path}")]).to_ours({"x.1": torch.ones(1)})
    with pytest.raises(ValueError, match="make 'a'"):
        KeyMap([Rule("a", "x"), Rule("a", "y", Identity())]).to_ours({"x": torch.ones(1), "y": torch.ones(1)})
