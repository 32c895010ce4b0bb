"""What an engine is: it embeds an image, and judges an embedding against a bank of normal ones."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Arrangement = Literal["flat", "cells", "cosine", "stack"]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Layout:
    """How a bank arranges the vectors of an engine.

    "flat": any vector may match any (Euclidean); "cells": only vectors of the same or a neighbouring cell of the grid;
    "cosine": one unit vector per image; "stack": as many vectors of every image, never searched one by one.
    """

    arrangement: Arrangement
    dimension: int
    grid: tuple[int, int] | None = None  # (rows, columns), for "cells"


@dataclass(frozen=True)
class Embedding:
    """What an engine makes of one image, independent of every other image."""

    vectors: NDArray[np.float16]  # (n, d); half precision in the bank and in the query, so that equal images are at 0
    cells: NDArray[np.int32]  # (n,) row * columns + column of every vector in the grid
    grid: tuple[int, int]  # (rows, columns)


@dataclass(frozen=True)
class Neighbours:
    """The nearest vector of the bank for each of n queries."""

    distances: NDArray[np.float32]  # (n,) Euclidean, or 1 - cosine
    items: tuple[str, ...]  # (n,) the items that the nearest vectors belong to


class NormalItems(Protocol):
    """The bank at one version, as an engine sees it."""

    def nearest(
        self, vectors: NDArray[np.float16], cells: NDArray[np.int32], exclude: AbstractSet[str] = frozenset()
    ) -> Neighbours:
        """The nearest vector for each query that belongs to none of the items in `exclude`."""
        ...

    def all_vectors(self, exclude: AbstractSet[str] = frozenset()) -> NDArray[np.float16]:
        """(n, d) every vector, ordered by item id, without the items in `exclude`."""
        ...

    def count(self, exclude: AbstractSet[str] = frozenset()) -> int:
        """How many items there are, without those in `exclude`."""
        ...

    def remember(
        self, make: Callable[["NormalItems", AbstractSet[str]], Made], exclude: AbstractSet[str] = frozenset()
    ) -> Made:
        """What `make` makes of these items, made once: for all of them, and for the last of other selections."""
        ...


@dataclass(frozen=True)
class Judgement:
    """How far an image is from the normal ones."""

    score: float  # the higher, the less normal; the unit is the engine's
    nearest_item: str
    distances: NDArray[np.float32] | None = None  # (rows, columns), where the engine has one per cell


class Engine(Protocol):
    """One way of telling a part from normal ones. Frozen once built, and safe in several threads."""

    layout: Layout

    def choose_input_shape(self, frame: tuple[int, int]) -> tuple[int, int]:
        """(h, w), multiples of 32, at which an image of shape `frame` (h, w) is embedded."""
        ...

    def embed(self, image: Tensor, mask: NDArray[np.bool_] | None) -> Embedding:
        """Embed one image (1, 3, h, w), normalised; `mask` (h, w) says what belongs to the part, None means all."""
        ...

    def contribute(self, embedding: Embedding) -> Embedding:
        """What of an embedding the bank keeps; depends on nothing else."""
        ...

    def prepare(self, normals: NormalItems) -> None:
        """Make what judging by these items needs, so that no call waits for it; there is at least one item."""
        ...

    def judge(self, embedding: Embedding, normals: NormalItems, exclude: AbstractSet[str] = frozenset()) -> Judgement:
        """Compare with the normal items, none of `exclude` among them."""
        ...

    def locate(self, image: Tensor, judgement: Judgement) -> NDArray[np.float32]:
        """(rows, columns) where the image is not normal, at least 0; rows and columns are the engine's."""
        ...
