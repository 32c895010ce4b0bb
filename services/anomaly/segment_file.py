"""The file of a segment: rows, and how they are spread over lists where somebody has decided that."""

import hashlib
import json
from typing import Any

import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from services.anomaly.inverted import Inverted
from services.anomaly.rows import Rows
from services.runtime.errors import DataLoss


def write_segment(rows: Rows, inverted: Inverted | None = None) -> bytes:
    """A safetensors file: owners, cells, vectors, and centroids and lists where there are; the rest in its header."""
    tensors: dict[str, NDArray[Any]] = {"owners": rows.owners, "cells": rows.cells, "vectors": rows.vectors}
    header = {"items": json.dumps(rows.items)}
    if inverted is not None:
        tensors |= {"centroids": inverted.centroids, "lists": inverted.lists}
        header |= {"probes": json.dumps(inverted.probes), "recall": json.dumps(inverted.recall)}
    return safetensors.numpy.save(tensors, metadata=header)


def read_segment(data: bytes, sha256: str) -> tuple[Rows, Inverted | None]:
    """Read what `write_segment` wrote, now or before there were lists.

    Raises:
        DataLoss: the bytes are not those that were written.
    """
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataLoss("a segment of the bank does not match its checksum")
    tensors = safetensors.numpy.load(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    rows = Rows(tuple(json.loads(header["items"])), tensors["owners"], tensors["cells"], tensors["vectors"])
    if "lists" not in tensors:
        return rows, None
    probes, recall = json.loads(header["probes"]), json.loads(header["recall"])
    return rows, Inverted(tensors["centroids"], tensors["lists"], probes, recall)
