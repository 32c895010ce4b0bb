"""pytorch-grad-cam in a process of its own, in the peers' environment; see `saliency_peers.py` for what it is asked.

Reads a job, then commands, one JSON a line; answers one JSON a line. The network is timm's with the given tensors, as
a user of the library has it: in evaluation mode, channels last, its parameters wanting gradients as they do by default.
"""

import json
import os
import sys
import time

import numpy as np
import timm
import torch
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus, LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors.torch import load_file

METHODS = {"grad_cam": GradCAM, "grad_cam_plus_plus": GradCAMPlusPlus, "layer_cam": LayerCAM, "eigen_cam": EigenCAM}


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed goes elsewhere
    job = json.loads(sys.stdin.readline())
    torch.set_num_threads(job["threads"])
    model = timm.create_model(job["backbone"], num_classes=job["classes"]).eval().to(memory_format=torch.channels_last)
    model.load_state_dict(load_file(job["tensors"]))
    inputs = torch.from_numpy(np.load(job["inputs"])).contiguous(memory_format=torch.channels_last)
    answers.write("{}\n")
    for line in sys.stdin:
        command = json.loads(line)
        answers.write(json.dumps(explain(model, inputs, **command)) + "\n")


def explain(model, inputs, method, layer, batch, label, path):
    """Maps of all inputs, (n, s, s), each scaled to 0 to 1 by the library; and how long they took."""
    target = model.get_submodule(layer)
    with METHODS[method](model=model, target_layers=[target]) as cam:
        start = time.perf_counter()
        maps = [cam(part, [ClassifierOutputTarget(label)] * len(part)) for part in torch.split(inputs, batch)]
        seconds = time.perf_counter() - start
    if path:
        np.save(path, np.concatenate(maps))
    return {"images_per_s": len(inputs) / seconds}


if __name__ == "__main__":
    main()
