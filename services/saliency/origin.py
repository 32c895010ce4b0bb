"""Where a training's starting weights come from, and how that is told."""

from services.runtime.weights import Weights, find_weights
from services.saliency.backbones import SMALL, hub_repo
from services.saliency.config import SaliencySettings


def find_backbone_weights(backbone: str, settings: SaliencySettings) -> Weights | None:
    """Find the file of a backbone's weights; None for the small network. Raises FailedPrecondition WEIGHTS_MISSING."""
    if backbone == SMALL:
        return None
    return find_weights(backbone, hub_repo(backbone), settings.weights_dir, allow_hub=settings.weights_hub)


def tell_origin(backbone: str, weights: Weights | None) -> str:
    """Say in a sentence what was used, and what to do for better weights."""
    if weights is None:
        return (
            "a small network trained on the given images alone; a pretrained one is more accurate: "
            'put mobilenetv2_100.safetensors into the folder of MEKIKI_WEIGHTS_DIR and train with "mobilenetv2_100"'
        )
    places = {"directory": "the folder of MEKIKI_WEIGHTS_DIR", "cache": "the hub's cache", "hub": "the hub"}
    return f"{backbone}, pretrained: {weights.path.name} from {places[weights.source]}"
