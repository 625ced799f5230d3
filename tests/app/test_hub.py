"""Models from hubs: the real client against a server on this machine that speaks their API, and fails in every way."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hub_server
import numpy as np
import pytest
from hub_server import Fault, Hub
from refusals import small_files

from huggingvis.checkpoints.hub import Fetching, Patience, Progress, fetch
from huggingvis.checkpoints.hub_names import Remote, remote
from huggingvis.core.errors import Cancelled, FileProblem, UsageError

ROOT = Path(__file__).resolve().parents[2]


def noise(count: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(count)


UNET = noise(300_000)
INDEX = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
         "scheduler": ["diffusers", "DDIMScheduler"], "tokenizer": ["transformers", "CLIPTokenizer"],
         "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
         "image_encoder": [None, None]}  # fmt: skip
PIPELINE = {
    "README.md": b"---\nlicense: openrail++\n---\n",
    "model_index.json": json.dumps(INDEX).encode(),
    "whole-model.safetensors": noise(9_000, 1),
    "unet/config.json": b'{"sample_size": 8}',
    "unet/diffusion_pytorch_model.safetensors": UNET,
    "unet/diffusion_pytorch_model.bin": noise(9_000, 2),
    "unet/diffusion_pytorch_model.fp16.safetensors": noise(150_000, 3),
    "unet/diffusion_flax_model.msgpack": noise(9_000, 4),
    "unet/model.onnx": noise(9_000, 5),
    "scheduler/scheduler_config.json": b"{}",
    "tokenizer/vocab.json": b'{"a": 1}',
    "tokenizer/merges.txt": b"#version: 0.2\n",
    "safety_checker/config.json": b"{}",
    "safety_checker/model.safetensors": noise(9_000, 6),
}
NEEDED = ["README.md", "model_index.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt",
          "tokenizer/vocab.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"]  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The server, with a client that may use the network, has no token, and finds no user's files."""
    from huggingface_hub import constants

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with hub_server.running() as server:
        server.models["maker/pipe"] = dict(PIPELINE)
        server.models["maker/lora"] = {"README.md": b"", "pytorch_lora_weights.safetensors": UNET}
        yield server


@dataclass
class Told:
    """What a fetch said and how far it told it was."""

    how: Fetching
    words: list[str] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)


@pytest.fixture
def told(hub: Hub, tmp_path: Path) -> Told:
    told = Told(Fetching())
    told.how = Fetching(
        progress=told.progress.append, say=told.words.append, patience=Patience(pause=0.01, timeout=5, longest=1.5),
        endpoint=hub.url, cache=tmp_path / "cache",
    )  # fmt: skip
    return told


def ask(name: str) -> Remote:
    what = remote(name)
    assert what is not None
    return what


def inside(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


# ---- spellings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a/b", Remote("hf", "a/b", plain=True)),
        ("hf:a/b", Remote("hf", "a/b")),
        ("a/b-1.5@v1:x/y.safetensors", Remote("hf", "a/b-1.5", "v1", "x/y.safetensors")),
        ("modelscope:AI/sd_v2:vae/", Remote("modelscope", "AI/sd_v2", None, "vae")),
        ("https://huggingface.co/a/b", Remote("hf", "a/b")),
        ("https://hf-mirror.com/a/b/resolve/main/x.ckpt?download=true", Remote("hf", "a/b", "main", "x.ckpt")),
        ("https://www.modelscope.cn/models/a/b", Remote("modelscope", "a/b")),
    ],
)
def test_spellings(name: str, what: Remote) -> None:
    assert remote(name) == what
    if not what.plain:
        assert remote(str(what)) in (what, replace(what, plain=True))


@pytest.mark.parametrize(
    "name",
    ["tiny", "/a/b", "./a", "a/b/c", "C:/models/x", "a\\b", "a/..", "a/b@../x", "a b/c", "https://example.org/a/b",
     "models/x.safetensors", "models/x.CKPT"],
)  # fmt: skip
def test_what_is_no_model_at_a_hub(name: str) -> None:
    assert remote(name) is None


# ---- what goes well -------------------------------------------------------------------------------------------------


def test_a_pipeline_comes_with_the_files_it_needs_and_no_others(hub: Hub, told: Told) -> None:
    folder = fetch(ask("maker/pipe"), told.how)
    assert inside(folder) == NEEDED
    assert all((folder / name).read_bytes() == PIPELINE[name] for name in NEEDED)
    last, size = told.progress[-1], sum(len(PIPELINE[n]) for n in NEEDED if n != "model_index.json")
    assert (last.done, last.total, last.number, last.files) == (size, size, 6, 6)
    assert told.words == []
    asked = len(hub.asked)
    assert fetch(ask("maker/pipe"), told.how) == folder and len(hub.asked) == asked  # without any network
    assert "fp16" in "".join(inside(fetch(ask("maker/pipe"), replace(told.how, variant="fp16", newest=True))))
    assert len([a for a in hub.files("/resolve/") if "/unet/" in a.path]) == 3 and not hub.files("safety_checker")


def test_the_cache_is_the_real_clients_own(hub: Hub, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download

    common: dict[str, Any] = {"cache_dir": told.how.cache, "endpoint": hub.url}
    theirs = hf_hub_download("maker/pipe", NEEDED[-1], **common)  # they fetch one file, the rest is fetched here
    folder = fetch(ask("maker/pipe"), told.how)
    assert Path(theirs) == folder / NEEDED[-1] and len(hub.files("/store/")) == 1
    asked = len(hub.asked)
    for name in NEEDED:
        assert Path(hf_hub_download("maker/pipe", name, local_files_only=True, **common)) == folder / name
    assert len(hub.asked) == asked
    scanned = scan_cache_dir(told.how.cache)
    assert not scanned.warnings and [repo.repo_id for repo in scanned.repos] == ["maker/pipe"]
    snapshot_download("maker/lora", **common)  # fetched by another program: whole, where a config says what it is
    (folder / NEEDED[-1]).unlink()  # a component lost its weights: the model is not taken for whole
    (folder.parents[1] / "listings" / f"{folder.name}.json").unlink()
    assert (fetch(ask("maker/pipe"), told.how) / NEEDED[-1]).exists() and len(hub.asked) > asked
    hub.models["maker/vae"] = {"config.json": b"{}", "diffusion_pytorch_model.safetensors": UNET}
    theirs = snapshot_download("maker/vae", **common)
    asked = len(hub.asked)
    assert fetch(ask("maker/vae"), told.how) == Path(theirs) and len(hub.asked) == asked


def test_one_file_one_folder_one_revision(hub: Hub, told: Told) -> None:
    assert fetch(ask("maker/lora"), told.how).read_bytes() == UNET
    file = fetch(ask("maker/pipe@v1:whole-model.safetensors"), told.how)
    assert file.name == "whole-model.safetensors" and inside(file.parent) == ["README.md", file.name]
    assert inside(fetch(ask("maker/pipe@v1"), told.how)) == sorted([*NEEDED, file.name])  # now the whole of it
    folder = fetch(ask("maker/pipe:safety_checker"), told.how)
    assert inside(folder) == ["config.json", "model.safetensors"]
    with pytest.raises(UsageError, match="Did you mean 'unet/config.json'"):
        fetch(ask("maker/pipe:unet/konfig.json"), told.how)
    with pytest.raises(UsageError, match="no revision 'v9'"):
        fetch(ask("maker/pipe@v9"), told.how)


def test_modelscope_has_the_same_models_by_its_own_api(hub: Hub, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.fail("safetensors", Fault(cut=100_000))
    folder = fetch(ask("modelscope:maker/pipe"), told.how)
    assert inside(folder) == NEEDED and (folder / NEEDED[-1]).read_bytes() == UNET
    assert [a.headers.get("range") for a in hub.files(".safetensors")] == [None, "bytes=100000-"]
    assert all(a.path.startswith("/api/v1/") and "authorization" not in a.headers for a in hub.asked)
    asked = len(hub.asked)
    assert fetch(ask("modelscope:maker/pipe"), told.how) == folder and len(hub.asked) == asked
    with pytest.raises(UsageError, match="knows no model 'maker/none' \\(404\\)"):
        fetch(ask("modelscope:maker/none"), told.how)


# ---- what goes wrong ------------------------------------------------------------------------------------------------


def parts(told: Told) -> list[Path]:
    assert told.how.cache is not None
    return list(told.how.cache.rglob("*.part"))


def test_a_cut_connection_goes_on_where_it_was_cut(hub: Hub, told: Told) -> None:
    hub.fail("/store/", Fault(cut=100_000))
    hub.fail("/store/", Fault(cut=50_000))
    path = fetch(ask("maker/lora"), told.how)
    assert path.read_bytes() == UNET and parts(told) == []
    assert [a.headers.get("range") for a in hub.files("/store/")] == [None, "bytes=100000-", "bytes=150000-"]
    assert "100,000 of 300,000 bytes" in told.words[0] and told.progress[-1].done == 300_000


def test_a_line_that_stays_dead_says_how_far_it_came_and_another_call_goes_on(hub: Hub, told: Told) -> None:
    hub.fail("/store/", Fault(cut=100_000))
    hub.fail("/store/", Fault(cut=0), times=5)
    with pytest.raises(FileProblem, match="100,000 of 300,000 bytes of pytorch_lora.* are here and stay.*same again"):
        fetch(ask("maker/lora"), told.how)
    assert [part.stat().st_size for part in parts(told)] == [100_000]
    hub.faults.clear()
    hub.fail("/store/", Fault(whole=True))  # and a mirror that knows no Range: the file is right all the same
    assert fetch(ask("maker/lora"), told.how).read_bytes() == UNET
    assert hub.files("/store/")[-1].headers["range"] == "bytes=100000-"
    assert any(w.startswith("Going on with pytorch_lora_weights.safetensors: 100,000 of") for w in told.words)


def test_wrong_bytes_are_thrown_away(hub: Hub, told: Told) -> None:
    hub.fail("/store/", Fault(wrong=True))
    with pytest.raises(FileProblem, match="with the hash .* but 127.0.0.1:.* says .*thrown away") as caught:
        fetch(ask("maker/lora"), told.how)
    assert hashlib.sha256(UNET).hexdigest() in str(caught.value) and parts(told) == []
    hub.fail("/store/", Fault(cut=100_000))
    hub.fail("/store/", Fault(cut=0), times=5)
    with pytest.raises(FileProblem, match="stay"):
        fetch(ask("maker/lora"), told.how)
    (part,) = parts(told)
    part.write_bytes(bytes(100_000))  # damaged while it lay here: noticed, and fetched anew
    hub.faults.clear()
    assert fetch(ask("maker/lora"), told.how).read_bytes() == UNET
    assert "is damaged: fetching it anew" in " ".join(told.words)
    hub.models["maker/small"] = {"lora.safetensors": b"x" * 100}
    hub.fail("/resolve/", Fault(wrong=True))  # git's own hash guards the small ones
    with pytest.raises(FileProblem, match="thrown away"):
        fetch(ask("maker/small"), told.how)


def test_gated_models_ask_for_a_token_which_goes_to_the_hub_alone(
    hub: Hub, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_right"
    with pytest.raises(FileProblem, match=r"accepted its terms: open http://127.*/maker/lora.*HF_TOKEN or by `hf auth"):
        fetch(ask("maker/lora"), told.how)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(FileProblem, match="use a token that has the right to it"):
        fetch(ask("maker/lora"), told.how)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    hub.fail("/resolve/", Fault(status=403, headers={"X-Error-Code": "GatedRepo"}))  # seen by all, given to some
    with pytest.raises(FileProblem, match="accepted its terms.*use a token that has the right"):
        fetch(ask("maker/lora"), told.how)
    assert fetch(ask("maker/lora"), told.how).read_bytes() == UNET
    (stored,) = hub.files("/store/")
    assert "authorization" not in stored.headers  # another host than the hub's


def test_unknown_models_name_the_nearest(hub: Hub, told: Told) -> None:
    with pytest.raises(UsageError, match=r"knows no model 'maker/pype' \(401\). Did you mean maker/pipe\?.*private"):
        fetch(ask("maker/pype"), told.how)
    hub.fail("/api/models/", Fault(status=403))
    with pytest.raises(FileProblem, match=r"refuses maker/lora \(403\): give a token"):
        fetch(ask("maker/lora"), told.how)


def test_too_many_requests_are_waited_for_and_then_given_up(hub: Hub, told: Told) -> None:
    hub.fail("/api/models/", Fault(status=429, headers={"Retry-After": "1"}))
    hub.fail("/store/", Fault(status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}))
    hub.fail("/store/", Fault(status=429, headers={"RateLimit": '"resolvers";r=0;t=0'}))
    began = time.monotonic()
    fetch(ask("maker/lora"), told.how)
    assert time.monotonic() - began >= 1 and sum("asks to wait 1 s (429" in word for word in told.words) == 1
    hub.fail("/api/models/", Fault(status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(FileProblem, match=r"\(429\) and asks to wait 3600 s.*again later, or name another"):
        fetch(ask("maker/pipe"), told.how)
    hub.fail("/api/models/", Fault(status=503), times=5)
    with pytest.raises(FileProblem, match="answers 503 where maker/pipe was asked for, 5 times in a row"):
        fetch(ask("maker/pipe"), told.how)


@pytest.mark.parametrize("where", ["/api/models/maker/pipe", "/store/"])
def test_endless_redirects_end(hub: Hub, told: Told, where: str) -> None:
    hub.fail(where, Fault(status=302), times=200)
    with pytest.raises(FileProblem, match="around in a circle"):
        fetch(ask("maker/pipe"), told.how)
    assert len(hub.asked) < 60


def test_nobody_there_and_offline(hub: Hub, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    with pytest.raises(FileProblem, match="127.0.0.1:9 cannot be reached: .*5 times in a row"):
        fetch(ask("maker/lora"), replace(told.how, endpoint="http://127.0.0.1:9"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileProblem, match="not in the cache .*HF_HUB_OFFLINE=0 hvis models get maker/lora"):
        fetch(ask("maker/lora"), told.how)
    assert hub.asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    path = fetch(ask("maker/lora"), told.how)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(ask("maker/lora"), replace(told.how, newest=True)) == path and "cache stays" in told.words[-1]


def test_a_full_disk_is_known_before_and_survived_meanwhile(hub: Hub, told: Told) -> None:
    hub.sizes["pytorch_lora_weights.safetensors"] = 10**17
    with pytest.raises(
        FileProblem, match=r"needs 100,000,000,000,000,000 bytes, but the disk.*--variant fp16.*HF_HOME"
    ):
        fetch(ask("maker/lora"), told.how)
    assert not hub.files("/resolve/")
    hub.sizes.clear()
    with small_files(200_000), pytest.raises(FileProblem, match=r"larger than this system.*200,000 of 300,000 .* stay"):
        fetch(ask("maker/lora"), told.how)
    assert fetch(ask("maker/lora"), told.how).read_bytes() == UNET
    assert hub.files("/store/")[-1].headers["range"] == "bytes=200000-"


def test_a_hub_that_names_files_outside_of_the_model_is_refused(hub: Hub, told: Told) -> None:
    hub.models["maker/evil"] = {"../../../x.safetensors": b"x"}
    with pytest.raises(FileProblem, match="outside the model"):
        fetch(ask("maker/evil"), told.how)


def test_repositories_that_leave_a_choice_or_none(hub: Hub, told: Told) -> None:
    hub.models["maker/two"] = {"a.safetensors": b"x", "a.ckpt": b"x", "b.safetensors": b"y"}
    hub.models["maker/flax"] = {"config.json": b"{}", "flax_model.msgpack": b"x"}
    with pytest.raises(UsageError, match="several models: a.ckpt, a.safetensors, b.safetensors. Say which"):
        fetch(ask("maker/two"), told.how)
    with pytest.raises(FileProblem, match="no weights that can be read here"):
        fetch(ask("maker/flax"), told.how)


# ---- the command line, in processes of its own ----------------------------------------------------------------------


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    told = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HVIS_CONFIG": str(home / "config.toml"), "PYTHONPATH": path}
    return {**kept, "no_proxy": "*", **told, **more}


def test_ctrl_c_loses_nothing(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    command = [sys.executable, "-m", "huggingvis", "models", "get", "maker/lora", "--json"]
    hub.fail("/store/", Fault(stall=100_000))
    with subprocess.Popen(
        command, env=environment(hub, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as first:
        deadline = time.monotonic() + 30
        while sum(p.stat().st_size for p in tmp_path.rglob("*.part")) < 100_000 and time.monotonic() < deadline:
            time.sleep(0.02)
        first.send_signal(signal.SIGINT)
        out, err = first.communicate(timeout=30)
    assert first.returncode == Cancelled.exit_code and "Traceback" not in err
    assert "100,000 of 300,000 bytes are here and stay" in " ".join(json.loads(out)["error"]["message"].split())
    again = subprocess.run(command, env=environment(hub, tmp_path), capture_output=True, text=True, timeout=60)
    assert again.returncode == 0, again.stderr
    path = Path(json.loads(again.stdout)["path"])
    assert path.read_bytes() == UNET and path.is_relative_to(tmp_path / "hub")
    assert hub.files("/store/")[-1].headers["range"] == "bytes=100000-"


def test_variables_of_the_client_are_honoured(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    hub.token = "hf_right"
    program = "from huggingvis.checkpoints.resolve import resolve; print(resolve('maker/lora'))"

    def call(**more: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", program]
        return subprocess.run(
            words, env=environment(hub, tmp_path, **more), capture_output=True, text=True, cwd=tmp_path
        )

    assert "HF_HUB_OFFLINE forbids the network" in call(HF_HUB_OFFLINE="1").stderr and hub.asked == []
    first = call(HF_TOKEN="hf_right")
    assert Path(first.stdout.strip()).read_bytes() == UNET, first.stderr
    asked = len(hub.asked)
    assert call(HF_HUB_OFFLINE="1").stdout == first.stdout and len(hub.asked) == asked


def test_a_model_of_a_hub_is_loaded_by_its_name(hub: Hub, told: Told, hvis: Any, monkeypatch: Any) -> None:
    from huggingface_hub import constants

    from huggingvis import api

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(told.how.cache))
    said = hvis(["generate", "a fox", "--model", "maker/none"])
    assert said.code == 2 and "knows no model 'maker/none'" in said.paragraph
    said = hvis(["generate", "a fox", "--model", "runs/none"])
    assert said.code == 2 and "no model or run folder called 'runs/none'" in said.paragraph
    said = hvis(["models", "get", "nothing"])
    assert said.code == 2 and "models get owner/name" in said.paragraph
    with pytest.raises(UsageError, match="knows no model 'maker/none'"):
        api.load("maker/none", device="cpu")
