"""How far long work is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Self

from mekiki._values.annotation import time_of
from mekiki.types.v1 import types_pb2


@dataclass(frozen=True)
class Progress:
    """How far long work is."""

    verb: str
    """The RPC that started it, such as "TrainDetector"."""

    phase: str
    """What it is doing now, such as "reading images"."""

    done: int
    """Steps of this phase that are done."""

    total: int
    """Steps of this phase in all; 0 while unknown."""

    metrics: Mapping[str, float]
    """Figures so far, such as "validation_accuracy"."""

    create_time: datetime
    update_time: datetime

    @classmethod
    def from_proto(cls, metadata: types_pb2.OperationMetadata) -> Self:
        """From the wire."""
        return cls(
            verb=metadata.verb,
            phase=metadata.phase,
            done=metadata.done,
            total=metadata.total,
            metrics=MappingProxyType(dict(metadata.metrics)),
            create_time=time_of(metadata.create_time),
            update_time=time_of(metadata.update_time),
        )
