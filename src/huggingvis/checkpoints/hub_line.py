"""A line to a hub: tries that are worth trying again, with patience, and says in a paragraph why the others failed.

Transient: cut connections, time-outs, answers 408, 5xx, and 429 (too many requests), which says how long to wait. All
else (no such model, no permission, endless redirects, offline) is said at once.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import final

from huggingvis.checkpoints.hub_names import Remote, Source
from huggingvis.core.errors import FileProblem, HvisError, UsageError, nearest

Say = Callable[[str], None]


@final
@dataclass(frozen=True)
class Patience:
    """How long is tried. Seconds: `pause` before the second try (doubled before each next), `timeout` without a byte,
    `longest` that may be waited in all because a hub asks for it."""

    tries: int = 5  #: in a row without a new byte
    pause: float = 1.0
    timeout: float = 20.0
    longest: float = 300.0


@final
@dataclass
class Line:
    """Tries to reach one model at one hub. `again` returns when the next try is due, or raises what to say."""

    source: Source
    remote: Remote
    patience: Patience
    say: Say
    failed: int = 0
    waited: float = 0.0
    progress: str = field(default="", init=False)  #: what stays of a transfer, for the message

    def moved(self, so_far: str) -> None:
        """Bytes arrived: the count of tries begins anew."""
        self.failed, self.progress = 0, so_far

    def again(self, error: Exception) -> None:
        """Waits as long as `error` makes sensible. Raises `FileProblem` or `UsageError` where no wait would help."""
        if isinstance(error, HvisError):
            raise error
        status, asked = _status(error), _retry_after(error)
        if status is None and not _of_network(error):
            raise error
        if status == 429 or (status == 503 and asked is not None):
            self._wait_as_asked(error, asked)
            return
        transient = status in (408, 500, 502, 503, 504) if status is not None else _transient(error)
        self.failed += 1
        if not transient or self.failed >= self.patience.tries:
            raise self._explained(error) from error
        title = self.source.title
        reason = f"{title} answered {status}" if status is not None else f"Lost {title}: {_words(error)}"
        self.say(f"{reason}. {self.progress}Trying again ({self.failed + 1} of "
                 f"{self.patience.tries}).")  # fmt: skip
        time.sleep(self.patience.pause * 2 ** (self.failed - 1))

    def _wait_as_asked(self, error: Exception, asked: float | None) -> None:
        self.failed += 1
        wait = self.patience.pause * 2 ** (self.failed - 1) if asked is None else asked
        if self.waited + wait > self.patience.longest or self.failed >= self.patience.tries:
            raise FileProblem(
                f"{self.source.title} takes no more requests from here for now (429) and asks to wait {wait:.0f} s, "
                f"after {self.waited:.0f} s of waiting. {self.progress}Call the same again later, or "
                f"{self.source.elsewhere}."
            ) from error
        self.say(f"{self.source.title} asks to wait {wait:.0f} s (429, too many requests).")
        self.waited += wait
        time.sleep(wait)

    def _explained(self, error: Exception) -> HvisError:
        from huggingface_hub.errors import GatedRepoError

        status = _status(error)
        if status is None:
            return self._unreachable(error)
        if isinstance(error, GatedRepoError):
            return FileProblem(
                f"{self.remote} is given only to those who accepted its terms: open {self.source.page(self.remote)}, "
                f"accept them, and {self.source.permission()}"
            )
        if status in (401, 404):
            return self._absent(error, status)
        if status == 403:
            return FileProblem(
                f"{self.source.title} refuses {self.remote} (403): {self.source.permission()} Its page "
                f"{self.source.page(self.remote)} says who may have it."
            )
        return FileProblem(
            f"{self.source.title} answers {status} where {self.remote} was asked for, {self.failed} times in a row. "
            f"{self.progress}Call the same again later, or {self.source.elsewhere}."
        )

    def _absent(self, error: Exception, status: int) -> HvisError:
        from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

        title, page = self.source.title, self.source.page(self.remote)
        if isinstance(error, RevisionNotFoundError):
            return UsageError(
                f"{self.remote.repo} has no revision {self.remote.revision!r}. {page} lists those it has."
            )
        if isinstance(error, EntryNotFoundError):
            return FileProblem(f"{title} lists a file of {self.remote} that it does not have (404). Try again later.")
        close = nearest(self.remote.repo.partition("/")[2], names := {m.partition("/")[2]: m for m in self._alike()})
        hint = f" Did you mean {' or '.join(names[name] for name in close)}?" if close else ""
        private = f" If it is private or gated: {self.source.permission()}" if status == 401 or not close else ""
        return UsageError(f"{title} knows no model {self.remote.repo!r} ({status}).{hint}{private}")

    def _alike(self) -> list[str]:
        try:
            return self.source.alike(self.remote, self.patience.timeout)
        except Exception:  # only a hint in a message: whatever the network does, the message itself goes out
            return []

    def _unreachable(self, error: Exception) -> HvisError:
        from huggingface_hub.errors import OfflineModeIsEnabled

        if isinstance(error, OfflineModeIsEnabled):
            return FileProblem(
                f"{self.remote} is not in the cache {self.source.cache}, and HF_HUB_OFFLINE forbids the network. Fetch "
                f"it once with the network, by `HF_HUB_OFFLINE=0 hvis models get {self.remote}`, or copy the model "
                "folder here and name it."
            )
        if type(error).__name__ == "TooManyRedirects":
            return FileProblem(
                f"{self.source.title} sends requests for {self.remote} around in a circle (endless redirect). A proxy "
                f"or a mirror is set up wrongly: look at HF_ENDPOINT and HTTPS_PROXY, or {self.source.elsewhere}."
            )
        return FileProblem(
            f"{self.source.title} cannot be reached: {_words(error)}, {self.failed} times in a row. {self.progress}"
            f"Look at the network (HTTPS_PROXY) and call the same again, or {self.source.elsewhere}."
        )


def _status(error: Exception) -> int | None:
    """The number that the hub answered with, where it answered."""
    from huggingface_hub.errors import HfHubHTTPError

    return int(error.response.status_code) if isinstance(error, HfHubHTTPError) else None


def _retry_after(error: Exception) -> float | None:
    """Seconds that the answer asks to wait: Retry-After as a number or a date, or the `t=` of RateLimit."""
    from huggingface_hub.errors import HfHubHTTPError

    if not isinstance(error, HfHubHTTPError):
        return None
    told = error.response.headers.get("Retry-After", "").strip()
    if told.isdigit():
        return float(told)
    if not told and (left := re.search(r"\bt=(\d+)", error.response.headers.get("RateLimit", ""))):
        return float(left[1])
    try:
        due = parsedate_to_datetime(told)
    except ValueError:
        return None
    return max(0.0, (due.replace(tzinfo=due.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _of_network(error: Exception) -> bool:
    """Whether the HTTP client raised it. Which client that is depends on the version of huggingface_hub."""
    from huggingface_hub import get_session

    client = type(get_session()).__module__.partition(".")[0]
    return isinstance(error, OSError) or any(c.__module__.partition(".")[0] == client for c in type(error).__mro__)


def _transient(error: Exception) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return not isinstance(error, OfflineModeIsEnabled) and type(error).__name__ != "TooManyRedirects"


def _words(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__
