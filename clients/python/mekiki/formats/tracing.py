"""Masks as polygons along the sides of their pixels: filled by the even-odd rule they are the mask again, exactly."""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]  # (n, 2) corners, x first
Point = tuple[int, int]

# Sides of a pixel whose neighbour (across, down) is outside: where the side begins, and where it goes, such that what
# is inside lies to the right.
_SIDES = (((0, -1), (0, 0), (1, 0)), ((1, 0), (1, 0), (0, 1)), ((0, 1), (1, 1), (-1, 0)), ((-1, 0), (0, 1), (0, -1)))


def trace_mask(mask: NDArray[np.bool_]) -> tuple[Polygon, ...]:
    """A polygon for each part of a mask, (h, w), whose pixels touch at their sides; none for an empty one.

    A hole belongs to the polygon around it: a bridge leads there and back, which takes no area.
    """
    loops = _walk(_list_sides(mask))
    areas = [_measure(loop) for loop in loops]
    around = sorted(((area, loop) for area, loop in zip(areas, loops, strict=True) if area > 0), key=lambda one: one[0])
    polygons = [loop for _, loop in around]  # the smallest first: of several around a hole that is its own
    outers = list(polygons)
    for area, hole in zip(areas, loops, strict=True):
        if area < 0:
            place = next(number for number, outer in enumerate(outers) if _is_inside(hole, outer))
            polygons[place] = _bridge(polygons[place], hole)
    return tuple(polygons)


def _list_sides(mask: NDArray[np.bool_]) -> dict[Point, list[Point]]:
    """Where the sides between inside and outside go, by where they begin."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    sides = defaultdict[Point, list[Point]](list)
    for (across, down), (x, y), way in _SIDES:
        neighbour = padded[1 + down : 1 + down + height, 1 + across : 1 + across + width]
        rows, columns = np.nonzero(mask & ~neighbour)
        for start in zip((columns + x).tolist(), (rows + y).tolist(), strict=True):
            sides[start].append(way)
    return sides


def _walk(sides: dict[Point, list[Point]]) -> list[Polygon]:
    """Closed loops, by their corners; where two meet in a point each goes on along its own pixel, to the right."""
    loops: list[Polygon] = []
    while sides:
        start = at = next(iter(sides))
        way, corners = sides[start][-1], [start]
        while True:
            ways = sides[at]
            right = (-way[1], way[0])
            turn = right if right in ways else way if way in ways else ways[-1]
            if turn != way and at != start:
                corners.append(at)
            way = turn
            ways.remove(way)
            if not ways:
                del sides[at]
            at = (at[0] + way[0], at[1] + way[1])
            if at == start:
                break
        loops.append(np.array(corners, np.float64))
    return loops


def _measure(loop: Polygon) -> float:
    """The area inside, negative of a hole's loop."""
    x, y = loop.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _is_inside(hole: Polygon, outer: Polygon) -> bool:
    """Whether a hole lies in a loop, by the even-odd rule on a ray from the middle of a pixel at its first corner."""
    x, y = hole[0] + 0.5 * np.sign(hole[1] - hole[0] + (hole[-1] - hole[0]))
    (x_1, y_1), (x_2, y_2) = outer.T, np.roll(outer, -1, axis=0).T
    return bool((((y_1 <= y) != (y_2 <= y)) & (np.maximum(x_1, x_2) > x)).sum() % 2)


def _bridge(outer: Polygon, hole: Polygon) -> Polygon:
    """One loop of two, by the shortest way from an outer corner to the hole's first."""
    place = int(((outer - hole[0]) ** 2).sum(axis=1).argmin())
    return np.concatenate([outer[: place + 1], hole, hole[:1], outer[place:]])
