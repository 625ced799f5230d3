"""Ctrl-C with manners: the first one ends the training after its step, the second one at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, final

from huggingvis.core.errors import Cancelled


@final
class StopRequest:
    """While entered, remembers that someone asked to stop: by ctrl-C, by SIGTERM, or through `ask`."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def ask(self) -> None:
        """Asks to stop after the current step."""
        self.asked = True

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # the system hands signals to the main thread only
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise Cancelled("Stopped at once. The run folder goes on from its last checkpoint when resumed.")
        self.asked = True
        # print could meet itself here: the signal may have come in the middle of another print
        os.write(2, b"\nStopping after this step; press ctrl-C again to stop at once.\n")
