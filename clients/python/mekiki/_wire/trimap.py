"""The values of a trimap, on either side of the wire."""

from enum import IntEnum


class Trimap(IntEnum):
    """The values of a trimap, (h, w) uint8: a map of which only some is known, such as what a person scribbled."""

    BACKGROUND = 0
    UNKNOWN = 128
    OBJECT = 255
