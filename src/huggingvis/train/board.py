"""TensorBoard logs; imported only where the package `tensorboard` is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import final

from torch.utils.tensorboard import SummaryWriter


@final
class Board:
    """Scalars and remarks of one run, under `<run>/tensorboard`."""

    def __init__(self, folder: Path, first_step: int):
        self.writer = SummaryWriter(str(folder), purge_step=first_step)

    def log(self, step: int, record: Mapping[str, float | str]) -> None:
        for key, value in record.items():
            if isinstance(value, str):
                self.writer.add_text(key, value, step)
            else:
                self.writer.add_scalar(key, value, step)

    def close(self) -> None:
        self.writer.close()
