"""Ports: what adapters add to a network's condition on its way in.

A provider is called at the start of each forward with what the net is told, (x, clock, cond), and returns the condition
that the net goes on with: ControlNet brings `residuals.N`, T2I-Adapter `features.N`, others new `tokens`. What they
need of the outside world lies in the condition too, under names of their own (`control.hint`), so that guidance doubles
it with everything else. With no provider a network runs exactly the code it would run if ports did not exist.
Book: chapter 6, "Looking inside".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Cond

Provider = Callable[[Tensor, Tensor, Cond], Cond]
"""From (x [B, ...], clock [B], cond) to the condition with something added to it."""


class Ported(nn.Module):
    """Base of networks whose condition adapters can add to. `providers` is empty unless somebody attached one."""

    def __init__(self) -> None:
        super().__init__()
        self.providers: tuple[tuple[str, Provider], ...] = ()

    def provided(self, x: Tensor, clock: Tensor, cond: Cond) -> Cond:
        """`cond` as the providers leave it, asked in the order in which they were attached."""
        for _, provider in self.providers:
            cond = provider(x, clock, cond)
        return cond


@final
class PortHandle:
    """Undoes one attachment exactly."""

    def __init__(self, net: Ported, entry: tuple[str, Provider]):
        self.net, self.entry = net, entry

    def remove(self) -> None:
        self.net.providers = tuple(one for one in self.net.providers if one is not self.entry)


def provide(net: Ported, name: str, provider: Provider) -> PortHandle:
    """Let `provider` add to the condition of `net`, in which what it reads lies under `name`.

    Raises `UsageError` where another of that name does already: both would read the same.
    """
    if any(name == other for other, _ in net.providers):
        raise UsageError(
            f"An adapter {name!r} is attached to this {type(net).__name__} already, and what they read lies in the "
            "condition by name. Give this one another name, or remove the first."
        )
    entry = (name, provider)
    net.providers = (*net.providers, entry)
    return PortHandle(net, entry)
