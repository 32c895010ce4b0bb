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
from services.saliency.folding import share_modules
from services.saliency.network import Network
from services.saliency.rules import Rule, grad_cam
from services.saliency.threads import open_threads

Outputs = tuple[torch.Tensor, ...]

CUDA_BATCH = 8  # images a forward pass, always; short batches are filled up
_MAP_DIMENSIONS = 4  # (n, c, h, w)


def run_in_fixed_batches(forward: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
    """Run `forward` at one batch shape, whatever the number of images; `inputs` and output have the same length."""

    def wrapped(*parts: torch.Tensor) -> Outputs:
        return (forward(*parts),)

    return run_many_in_fixed_batches(wrapped, *inputs)[0]


def run_many_in_fixed_batches(forward: Callable[..., Outputs], *inputs: torch.Tensor) -> Outputs:
    """Run `forward`, which has several outputs, at one batch shape; `inputs` and outputs have the same length.

    Libraries choose their kernels, and so the order of their sums, by shape: with one shape a result cannot depend on
    what shares its batch. That shape is one image on the CPU, where each core has an image of its own; `CUDA_BATCH`
    elsewhere, filled up with zeros.
    """
    on_cpu = inputs[0].device.type == "cpu"
    size = 1 if on_cpu else CUDA_BATCH
    count = len(inputs[0])
    starts = range(0, count, size)

    def run(start: int) -> Outputs:
        outputs = forward(*(_fill_up(tensor[start : start + size], size) for tensor in inputs))
        return tuple(output[: count - start] for output in outputs)

    parts = list(open_threads().map(run, starts) if on_cpu else map(run, starts))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _fill_up(part: torch.Tensor, size: int) -> torch.Tensor:
    lacking = size - len(part)
    return torch.cat([part, part.new_zeros(lacking, *part.shape[1:])]) if lacking else part


def compute_features(network: Network, inputs: torch.Tensor) -> torch.Tensor:
    """(n, 3, s, s) → the last feature map, (n, c, h, w)."""

    def compute(part: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            features: torch.Tensor = network.module.forward_features(part)  # type: ignore[operator]
            return features

    return run_in_fixed_batches(compute, inputs)


def compute_logits(network: Network, features: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) → (n, k)."""

    def compute(part: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = network.module.forward_head(part)  # type: ignore[operator]
            return logits

    return run_in_fixed_batches(compute, features)


def look(
    network: Network, inputs: torch.Tensor, classes: torch.Tensor | None, rule: Rule | None, layer: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give maps (n, h, w) and logits (n, k), in one pass: by a rule or, where that is None, by CAM.

    `classes` (n,) None explains the most probable ones; `layer` "" is the last feature map. See `compute_map_at`.
    """
    if layer:
        return compute_map_at(network, inputs, classes, layer, rule or grad_cam)
    features = compute_features(network, inputs)
    logits = compute_logits(network, features)
    chosen = compute_probabilities(logits).argmax(1) if classes is None else classes
    maps = compute_cam(network, features, chosen) if rule is None else compute_map(network, features, chosen, rule)
    return maps, logits


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
        with torch.no_grad():
            return torch.einsum("nchw,nc->nhw", part, network.linear.weight[chosen])

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
    network: Network, inputs: torch.Tensor, classes: torch.Tensor | None, layer: str, rule: Rule = grad_cam
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute a map by a rule at a named layer, on that layer's own grid, and the logits, in one pass.

    `inputs` (n, 3, s, s), `classes` (n,) int64 or None for the most probable ones → (n, h, w) float32 and (n, k).

    Raises InvalidArgument naming the layer where there is none, or where it yields no map or runs more than once.
    """

    def forward(part: torch.Tensor, *chosen: torch.Tensor) -> Outputs:
        with torch.enable_grad():
            activation, logits = _capture(network, part, layer)
            asked = chosen[0] if chosen else compute_probabilities(logits.detach()).argmax(1)
            return _apply(rule, activation, logits, asked), logits.detach()

    heat, logits = run_many_in_fixed_batches(forward, inputs, *(() if classes is None else (classes,)))
    return heat, logits


def compute_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """(n, k) → (n, k) float32; in double precision, so that they add up to 1 as closely as float32 can say."""
    return torch.softmax(logits.double(), dim=1).float()


def _apply(rule: Rule, activation: torch.Tensor, logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    asked = logits.gather(1, classes[:, None]).sum()  # images do not feel each other, so neither do their gradients
    (gradient,) = torch.autograd.grad(asked, activation)
    return rule(activation.detach(), gradient)


def _capture(network: Network, inputs: torch.Tensor, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the network and catch one layer's output, by a shell of its own whose layer notes down what it yields."""
    shell = share_modules(network.module)
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
