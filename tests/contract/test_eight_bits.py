"""Weights in eight bits come back within half a step of their row, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from huggingvis.checkpoints.eight_bits import LEVELS, packed, unpacked
from huggingvis.core.errors import FileProblem, NumericalTrouble
from huggingvis.systems.packaged import fill, write

HERE = Path("file.safetensors")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 5, 1))


def test_a_row_loses_at_most_half_a_step() -> None:
    torch.manual_seed(0)
    matrix, row = torch.randn(6, 4, 3, 3) * torch.logspace(-6, 3, 6).view(-1, 1, 1, 1), torch.randn(7)
    small = packed({"a": matrix, "b": row, "n": torch.tensor([[3]])})
    assert small["a"].dtype == torch.int8 and small["a.scale"].shape == (6,)
    assert torch.equal(small["b"], row) and torch.equal(small["n"], torch.tensor([[3]]))
    back = unpacked(small, HERE)
    assert back.keys() == {"a", "b", "n"} and back["n"].dtype == torch.int64
    step = matrix.abs().amax((1, 2, 3)) / LEVELS
    off = (back["a"] - matrix).abs().amax((1, 2, 3)) / step
    assert off.max() <= 0.5 + 1e-4 and off.min() > 0.3  # of 36 numbers some lie near the middle of a step
    assert torch.allclose(back["a"].abs().amax((1, 2, 3)), matrix.abs().amax((1, 2, 3)), rtol=1e-6)  # the largest stays


def test_rows_of_zeros_stay_zeros() -> None:
    assert torch.equal(unpacked(packed({"a": torch.zeros(2, 3)}), HERE)["a"], torch.zeros(2, 3))


def test_a_tensor_called_scale_is_no_scale_of_another() -> None:
    odd = {"norm": torch.randn(3), "norm.scale": torch.randn(3)}
    back = unpacked(packed(odd), HERE)
    assert back.keys() == odd.keys() and all(torch.equal(back[name], odd[name]) for name in odd)
    with pytest.raises(ValueError, match="taken"):
        packed({"m": torch.randn(2, 2), "m.scale": torch.randn(2)})


@pytest.mark.parametrize("scale", [None, torch.ones(1), torch.ones(2), torch.ones(3, 1), torch.ones(3).long()])
def test_eight_bits_without_their_scales_are_refused(scale: torch.Tensor | None) -> None:
    damaged = {"m": torch.ones(3, 4, dtype=torch.int8), **({} if scale is None else {"m.scale": scale})}
    with pytest.raises(FileProblem, match=r"'m' in eight bits.*each of its 3 rows"):
        unpacked(damaged, HERE)


def test_a_folder_in_eight_bits_loads_like_any_other(tmp_path: Path) -> None:
    write(tmp_path, {"name": "x"}, {"small": net(), "whole": net()}, torch.float16, small=("small",))
    sizes = {name: (tmp_path / f"{name}.safetensors").stat().st_size for name in ("small", "whole")}
    assert sizes["small"] < sizes["whole"]
    small, whole = (fill(net(), tmp_path / f"{name}.safetensors", torch.device("cpu")) for name in ("small", "whole"))
    x = torch.randn(2, 3, 8, 8)
    assert small(x).dtype == torch.float32
    assert float((small(x) - whole(x)).norm() / whole(x).norm()) < 0.02
    tiny = nn.Linear(4, 4)
    nn.init.uniform_(tiny.weight, -1e-9, 1e-9)  # too small for half precision
    write(tmp_path / "tiny", {"name": "x"}, {"net": tiny}, torch.float16, small=("net",))
    back = fill(nn.Linear(4, 4), tmp_path / "tiny" / "net.safetensors", torch.device("cpu"))
    assert isinstance(back, nn.Linear) and torch.allclose(back.weight, tiny.weight, atol=1e-11)


def test_scales_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    from huggingvis.checkpoints.io import load, save

    write(tmp_path, {"name": "x"}, {"small": net()}, torch.float16, small=("small",))
    tensors = dict(load(tmp_path / "small.safetensors"))
    tensors["0.weight.scale"] = torch.full_like(tensors["0.weight.scale"], torch.nan)
    save(tmp_path / "small.safetensors", tensors)
    with pytest.raises(NumericalTrouble, match="0.weight.scale"):
        fill(net(), tmp_path / "small.safetensors", torch.device("cpu"))
