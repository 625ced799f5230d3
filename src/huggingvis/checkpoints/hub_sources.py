"""The hubs themselves: the Hugging Face hub through `huggingface_hub`, and ModelScope, a mirror with an API of its own.

`huggingface_hub` reads its own variables: HF_ENDPOINT (another mirror), HF_HOME and HF_HUB_CACHE (where the cache is),
HF_TOKEN, HF_HUB_OFFLINE. ModelScope lists a model at `/api/v1/models/ID/repo/files?Revision=&Recursive=true`, as
{Code, Success, Data: {Files: [{Path, Type, Size, Sha256}]}}, and gives a file at `/api/v1/models/ID/repo?FilePath=`; it
is asked through the same HTTP client, without a token, and its models are cached under HF_HOME/modelscope.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final
from urllib.parse import urlencode

from huggingvis.checkpoints.hub_names import MODELSCOPE, HubFile, Listing, Remote, Source
from huggingvis.core.errors import FileProblem, UsageError


def source_of(remote: Remote, endpoint: str | None = None, cache: Path | None = None) -> Source:
    """The hub that `remote` names. `endpoint` and `cache` replace its address and its cache folder."""
    if remote.source == MODELSCOPE:
        return ModelScope(endpoint, cache)
    return HuggingFace(endpoint, cache)


@final
class HuggingFace:
    """The Hugging Face hub, or what speaks its API at `endpoint` (by default what HF_ENDPOINT says)."""

    branch = "main"
    elsewhere = "name another mirror with HF_ENDPOINT"

    def __init__(self, endpoint: str | None = None, cache: Path | None = None):
        from huggingface_hub import HfApi, constants

        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self.title = self.endpoint.partition("://")[2]
        self.cache = str(cache or constants.HF_HUB_CACHE)
        self._api = HfApi(endpoint=self.endpoint, library_name="huggingvis")

    def listing(self, remote: Remote, timeout: float) -> Listing:
        told = self._api.model_info(remote.repo, revision=remote.revision, files_metadata=True, timeout=timeout)
        files = {}
        for file in told.siblings or ():
            lfs = file.lfs
            files[file.rfilename] = HubFile(file.size or 0, lfs.sha256 if lfs else None, file.blob_id)
        if told.sha is None:
            raise FileProblem(f"{self.title} does not say which commit of {remote} is the newest. Try another mirror.")
        return Listing(told.sha, files)

    def address(self, remote: Remote, commit: str, path: str) -> tuple[str, dict[str, str]]:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(remote.repo, path, revision=commit, endpoint=self.endpoint)
        return url, build_hf_headers(library_name="huggingvis")

    def page(self, remote: Remote) -> str:
        return f"{self.endpoint}/{remote.repo}"

    def alike(self, remote: Remote, timeout: float) -> list[str]:
        owner, _, name = remote.repo.partition("/")
        found = [*self._api.list_models(author=owner, limit=100), *self._api.list_models(search=name, limit=20)]
        return [model.id for model in found]

    def permission(self) -> str:
        from huggingface_hub import get_token

        if get_token() is not None:
            return "use a token that has the right to it: the present one (HF_TOKEN, or `hf auth login`) has not."
        return "give a token of an account that may have it, by HF_TOKEN or by `hf auth login`."


@final
@dataclass(frozen=True)
class _Asked:
    """A path of ModelScope's API with its query."""

    url: str
    query: dict[str, str]

    def __str__(self) -> str:
        return f"{self.url}?{urlencode(self.query)}"


@final
class ModelScope:
    """ModelScope at `endpoint`. A listing has no commit there: what its files hold gives the snapshot its name."""

    branch = "master"
    elsewhere = "take the model from the Hugging Face hub, by its name without `modelscope:`"

    def __init__(self, endpoint: str | None = None, cache: Path | None = None):
        from huggingface_hub import constants

        self.endpoint = (endpoint or "https://www.modelscope.cn").rstrip("/")
        self.title = self.endpoint.partition("://")[2]
        self.cache = str(cache or Path(constants.HF_HOME) / "modelscope")

    def listing(self, remote: Remote, timeout: float) -> Listing:
        asked = _Asked(f"{self._api(remote)}/files", {"Revision": self._revision(remote), "Recursive": "true"})
        data = self._ask(str(asked), remote, timeout)
        files = {}
        for file in data.get("Files") or ():
            if file.get("Type") != "tree":
                files[str(file["Path"])] = HubFile(int(file.get("Size") or 0), file.get("Sha256") or None)
        told = "\n".join(f"{path} {file.size} {file.sha256}" for path, file in sorted(files.items()))
        return Listing(hashlib.sha1(told.encode(), usedforsecurity=False).hexdigest(), files)

    def address(self, remote: Remote, commit: str, path: str) -> tuple[str, dict[str, str]]:
        asked = _Asked(self._api(remote), {"Revision": self._revision(remote), "FilePath": path})
        return str(asked), {"User-Agent": "huggingvis"}

    def page(self, remote: Remote) -> str:
        return f"{self.endpoint}/models/{remote.repo}"

    def alike(self, remote: Remote, timeout: float) -> list[str]:
        return []  # its search is no part of the API for downloads

    def permission(self) -> str:
        return "fetch it there by hand and name its folder, since only public models are fetched from there."

    def _api(self, remote: Remote) -> str:
        return f"{self.endpoint}/api/v1/models/{remote.repo}/repo"

    def _revision(self, remote: Remote) -> str:
        return remote.revision or self.branch

    def _ask(self, url: str, remote: Remote, timeout: float) -> dict[str, Any]:
        from huggingface_hub import get_session
        from huggingface_hub.utils import hf_raise_for_status

        answer = get_session().get(url, headers={"User-Agent": "huggingvis"}, timeout=timeout)
        hf_raise_for_status(answer)
        try:
            told = answer.json()
            data = told["Data"] if told["Success"] else None
        except (ValueError, KeyError, TypeError) as error:
            raise FileProblem(
                f"{self.title} answers with something that is no list of files. It may be a proxy's page: open "
                f"{self.page(remote)} in a browser to see."
            ) from error
        if not isinstance(data, dict):
            raise UsageError(
                f"{self.title} does not give {remote.repo!r}: {told.get('Message') or 'no reason'}. "
                f"{self.page(remote)} says whether it exists and is public; private models are not fetched there."
            )
        return data
