"""An IP-Adapter: what projects a picture's embedding to tokens, and the keys and values that read them."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject


@final
class _IPAdapter(Kind):
    name, title, rank, adapter = "ip-adapter", "an IP-Adapter", 45, True

    def found(self, subject: Subject) -> bool:
        return subject.foreign("an IP-Adapter")


KIND = _IPAdapter()
