"""Tensors and what is to be known about them in one safetensors file, with JSON in its header. Never pickle."""

import json
from typing import Any

import safetensors
import safetensors.torch
import torch

from services.runtime.errors import DataLoss

_KEY = "mekiki"  # safetensors headers hold only text by name, so everything goes under one name
_LENGTH_BYTES = 8


def pack(tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> bytes:
    """Write tensors (copied to the CPU) and a JSON-able `about`; the same input gives the same bytes."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(about, sort_keys=True, ensure_ascii=False)
    return bytes(safetensors.torch.save(flat, metadata={_KEY: text}))


def unpack(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read back what `pack` wrote. Raises DataLoss where the bytes are damaged or something else."""
    try:
        length = int.from_bytes(data[:_LENGTH_BYTES], "little")
        header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
        about: dict[str, Any] = json.loads(header["__metadata__"][_KEY])
        return safetensors.torch.load(data), about
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DataLoss(f"these {len(data)} bytes are no saved tensors: {error}") from error
