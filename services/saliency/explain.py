"""Which positions speak for a class: CAM in closed form, and what needs a gradient at any layer.

image → compute_features → compute_logits
                        ↘ compute_cam, compute_map → finish_heatmap

Nothing is attached to a model and nothing is remembered in it, so any number of threads may explain with one model.
"""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from services.runtime.errors import InvalidArgument
from services.saliency.network import Network
from services.saliency.rules import Rule, grad_cam

CUDA_BATCH = 8  # images a forward pass, always; short batches are filled up
_MAP_DIMENSIONS = 4  # (n, c, h, w)


def run_in_fixed_batches(forward: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
    """Run `forward` at one batch shape, whatever the number of images; `inputs` and output have the same length.

    Libraries choose their kernels, and so the order of their sums, by shape: with one shape a result cannot depend on
    what shares its batch. That shape is one image on the CPU; `CUDA_BATCH` elsewhere, filled up with zeros.
    """
    size = 1 if inputs[0].device.type == "cpu" else CUDA_BATCH
    count = len(inputs[0])
    parts = [
        forward(*(_fill_up(tensor[start : start + size], size) for tensor in inputs))[: count - start]
        for start in range(0, count, size)
    ]
    return torch.cat(parts)


def _fill_up(part: torch.Tensor, size: int) -> torch.Tensor:
    lacking = size - len(part)
    return torch.cat([part, part.new_zeros(lacking, *part.shape[1:])]) if lacking else part


def compute_features(network: Network, inputs: torch.Tensor) -> torch.Tensor:
    """(n, 3, s, s) → the last feature map, (n, c, h, w)."""
    with torch.no_grad():
        return run_in_fixed_batches(network.module.forward_features, inputs)  # type: ignore[arg-type]


def compute_logits(network: Network, features: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) → (n, k)."""
    with torch.no_grad():
        return run_in_fixed_batches(network.module.forward_head, features)  # type: ignore[arg-type]


def compute_distances(
    network: Network, features: torch.Tensor, measure: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """(n, c, h, w) → (n,): what `measure` makes of the embeddings (n, d), which are what goes into the last layer."""

    def forward(part: torch.Tensor) -> torch.Tensor:
        return measure(network.module.forward_head(part, pre_logits=True))  # type: ignore[operator]

    with torch.no_grad():
        return run_in_fixed_batches(forward, features)


def compute_cam(network: Network, features: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Compute class activation maps (Zhou et al., CVPR 2016, eq. 2): the last layer's weights at every position.

    `features` (n, c, h, w), `classes` (n,) int64 → (n, h, w) float32, signed: negative where a position speaks against
    the class. Raises InvalidArgument where the head is not a mean over positions and a linear layer.
    """
    if not network.cam_ready:
        raise InvalidArgument("method", f"the head of {network.backbone!r} has no closed form; use GRAD_CAM")

    def forward(part: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nchw,nc->nhw", part, network.linear.weight[chosen])

    with torch.no_grad():
        return run_in_fixed_batches(forward, features, classes)


def compute_map(network: Network, features: torch.Tensor, classes: torch.Tensor, rule: Rule = grad_cam) -> torch.Tensor:
    """Compute a map by a rule at the last feature map.

    `features` (n, c, h, w), `classes` (n,) int64 → (n, h, w) float32, signed.
    """

    def forward(part: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            activation = part.detach().requires_grad_()
            logits = network.module.forward_head(activation.clone())  # type: ignore[operator]
            return _apply(rule, activation, logits, chosen)

    return run_in_fixed_batches(forward, features, classes)


def compute_map_at(
    network: Network, inputs: torch.Tensor, classes: torch.Tensor, layer: str, rule: Rule = grad_cam
) -> torch.Tensor:
    """Compute a map by a rule at a named layer, on that layer's own grid: `inputs` (n, 3, s, s) → (n, h, w) float32.

    Raises InvalidArgument naming the layer where there is none, or where it yields no map or runs more than once.
    """

    def forward(part: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            activation, logits = _capture(network, part, layer)
            return _apply(rule, activation, logits, chosen)

    return run_in_fixed_batches(forward, inputs, classes)


def _apply(rule: Rule, activation: torch.Tensor, logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    asked = logits.gather(1, classes[:, None]).sum()  # images do not feel each other, so neither do their gradients
    (gradient,) = torch.autograd.grad(asked, activation)
    return rule(activation.detach(), gradient)


def _capture(network: Network, inputs: torch.Tensor, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the network and catch one layer's output, by a shell of its own whose layer notes down what it yields."""
    shell = _share_modules(network.module)
    target = _find_layer(network, shell, layer)
    caught: list[torch.Tensor] = []
    original = target.forward

    def note_down(*arguments: object) -> torch.Tensor:
        output = original(*arguments)
        if not isinstance(output, torch.Tensor) or output.ndim != _MAP_DIMENSIONS:
            raise InvalidArgument("layer", f"{layer!r} yields no map of features")
        caught.append(output.detach().requires_grad_())
        return caught[-1].clone()  # the next layer may overwrite its input

    target.__dict__["forward"] = note_down
    logits: torch.Tensor = shell(inputs)
    if len(caught) != 1:
        raise InvalidArgument("layer", f"{layer!r} runs {len(caught)} times in one pass, it must run once")
    return caught[0], logits


def _find_layer(network: Network, module: nn.Module, layer: str) -> nn.Module:
    try:
        return module.get_submodule(layer)
    except AttributeError as error:
        usual = ", ".join(network.layers)
        raise InvalidArgument("layer", f"{network.backbone!r} has no layer {layer!r}; usual ones: {usual}") from error


def _share_modules(module: nn.Module) -> nn.Module:
    """Copy the tree of modules but none of its tensors, so that a call can alter its copy and no other call sees it."""
    shell: nn.Module = object.__new__(type(module))
    shell.__dict__.update(module.__dict__)
    children = module.__dict__["_modules"].items()
    shell.__dict__["_modules"] = {name: None if child is None else _share_modules(child) for name, child in children}
    return shell


def finish_heatmap(raw: npt.NDArray[np.float32], size: tuple[int, int] | None) -> npt.NDArray[np.float32]:
    """Keep what speaks for the class, resize to (width, height) where asked, and scale to a maximum of 1.

    The grid's cells tile the whole image, a cell's value sits at its centre. All zero where nothing speaks for the
    class. Returns (h, w) float32 in [0, 1].
    """
    positive = np.maximum(raw, 0)
    sized = positive if size is None else _resize(positive, size)
    peak = float(sized.max())
    scaled = sized / peak if peak > 0 else np.zeros_like(sized)
    return np.ascontiguousarray(scaled, dtype=np.float32)


def _resize(heat: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    shrinks = size[0] <= heat.shape[1] and size[1] <= heat.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(heat, size, interpolation=method), dtype=np.float32)
