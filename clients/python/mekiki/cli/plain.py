"""Values as plain data for `--json`, and foreign text made safe for a terminal."""

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from mekiki import Heatmap, MekikiError


def to_json(value: object) -> str:
    """One line of JSON, ASCII only, whatever names and figures are in it."""
    return json.dumps(to_plain(value), allow_nan=False)


def to_plain(value: object) -> Any:  # noqa: ANN401, PLR0911 -- whatever JSON can hold, case by case
    """Dataclasses as objects, moments as ISO 8601, NaN as null; of pictures and masks only the shape."""
    match value:
        case Heatmap():
            return {"shape": list(value.values.shape)}
        case MekikiError():
            told = {"error": type(value).__name__, "message": value.message, "reason": value.reason}
            return told | ({"field": value.field} if value.field else {})
        case np.ndarray():
            is_picture = value.dtype.kind in "bu"
            return {"shape": list(value.shape)} if is_picture else to_plain(value.tolist())
        case Mapping():
            return {str(key): to_plain(entry) for key, entry in value.items()}
        case list() | tuple():
            return [to_plain(entry) for entry in value]
        case datetime():
            return value.isoformat()
        case float() if not math.isfinite(value):
            return None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def safe(text: object) -> str:
    """Text for a terminal: control characters, bidirectional overrides and undecodable bytes are spelled out."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in str(text))


def to_item_id(name: str) -> str:
    """The item identifier for a file's name: the name, with what an identifier must not hold spelled out."""
    return safe(name)
