"""Finds pretrained weights: in a directory, in the hub's cache, on the hub, in this order."""

from dataclasses import dataclass
from pathlib import Path

from services.runtime.errors import FailedPrecondition

_FILE = "model.safetensors"
_HUB_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Weights:
    """A file of weights and where it was found: "directory", "cache" or "hub"."""

    path: Path
    source: str


def find_weights(backbone: str, hub_repo: str, weights_dir: Path | None, *, allow_hub: bool = True) -> Weights:
    """Returns the weights of a backbone.

    Args:
        backbone: timm's name, such as mobilenetv2_100.
        hub_repo: the hub's repository, such as timm/mobilenetv2_100.ra_in1k.
        weights_dir: folder that is searched first, for `<backbone>.safetensors` or `<backbone>.*.safetensors`.
        allow_hub: whether the network may be asked.

    Raises:
        FailedPrecondition: WEIGHTS_MISSING; says which file to put where.
    """
    found = _in_directory(backbone, weights_dir) or _in_cache(hub_repo) or (_on_hub(hub_repo) if allow_hub else None)
    if found is None:
        place = weights_dir or "a folder that MEKIKI_WEIGHTS_DIR names"
        raise FailedPrecondition(
            "WEIGHTS_MISSING",
            f"no pretrained weights for backbone {backbone!r}: put {backbone}.safetensors "
            f"(the {_FILE} of {hub_repo}) into {place}, "
            'or ask for backbone "small", which needs none and is less accurate',
        )
    return found


def _in_directory(backbone: str, weights_dir: Path | None) -> Weights | None:
    if weights_dir is None:
        return None
    files = [weights_dir / f"{backbone}.safetensors", *sorted(weights_dir.glob(f"{backbone}.*.safetensors"))]
    return next((Weights(file, "directory") for file in files if file.is_file()), None)


def _in_cache(hub_repo: str) -> Weights | None:
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - slow to import, rarely needed

    path = try_to_load_from_cache(hub_repo, _FILE)
    return Weights(Path(path), "cache") if isinstance(path, str) else None


def _on_hub(hub_repo: str) -> Weights | None:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - as above

    try:
        return Weights(Path(hf_hub_download(hub_repo, _FILE, etag_timeout=_HUB_TIMEOUT_S)), "hub")
    except Exception:  # noqa: BLE001 - no network, no proxy, no such file: all mean that the hub cannot help
        return None
