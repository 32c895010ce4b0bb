"""Files from strangers: how much is read of them, and what is refused before it does harm.

XML may hold no document type, so no entities: neither those that grow without end nor those that read other files.
Names of images are looked up among the images that are there and never opened; those that climb are refused all the
same.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree as ET
from xml.parsers import expat

BYTE_LIMIT = 512 << 20
"""Of one annotation file; COCO's largest has 450 MB."""

DEPTH_LIMIT = 32
TEXT_LIMIT = 255  # bytes of a label, as the services have it
_DRIVE = re.compile(r"[A-Za-z]:")


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Says of any mistake in a file which file it is.

    Raises:
        ValueError: for whatever goes wrong with its content.
    """
    try:
        yield
    except RecursionError:
        raise ValueError(f"{path}: is no {what} (nested too deeply)") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no {what} (not UTF-8 at byte {error.start})") from error
    except (ArithmeticError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        told = f"no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: is no {what} ({told})") from error


def read_bytes(path: Path, root: Path, limit: int = BYTE_LIMIT) -> bytes:
    """A file below a root.

    Raises:
        ValueError: it is larger than the limit, or a link that leads out of the root.
        OSError: it cannot be read.
    """
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        raise ValueError("a link that leads out of the folder")
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"{size:,} bytes, more than {limit:,}")
    return path.read_bytes()


def read_text(path: Path, root: Path, limit: int = BYTE_LIMIT) -> str:
    """A file below a root as UTF-8, with or without a byte order mark; raises as `read_bytes` does."""
    return read_bytes(path, root, limit).decode("utf-8-sig")


def parse_json(text: str) -> Any:  # noqa: ANN401 -- whatever JSON can hold
    """A JSON value.

    Raises:
        ValueError: it is none, or holds NaN or Infinity.
    """
    return json.loads(text, parse_constant=_refuse_constant)


def parse_xml(data: bytes) -> ET.Element:
    """An XML document's root.

    Raises:
        ValueError: it is none, has a document type, or is nested too deeply.
    """
    builder, depth = ET.TreeBuilder(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH_LIMIT:
            raise ValueError("nested too deeply")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from error
    return builder.close()


def _refuse_doctype(*_: object) -> NoReturn:
    raise ValueError("has a document type, and so may have entities")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def take_number(value: object, field: str) -> float:
    """A finite number, of a number or its text.

    Raises:
        TypeError: it is neither.
        ValueError: it is none, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"{field} must be a number, is {type(value).__name__}")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{field} must be a finite number, is {str(value)[:40]!r}")
    return number


def take_size(told: Mapping[str, Any], width: str, height: str) -> tuple[int, int]:
    """An image's size as a file tells it, (0, 0) where it does not.

    Raises:
        ValueError: a side is no number, or negative.
    """
    sides = tuple(int(take_number(told.get(side) or 0, side)) for side in (width, height))
    if min(sides) < 0:
        raise ValueError(f"{width} and {height} must not be negative, are {sides[0]} and {sides[1]}")
    return sides[0], sides[1]


def take_label(value: object) -> str:
    """A label.

    Raises:
        TypeError: it is no text.
        ValueError: it is empty, too long, or has halves of characters.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"a label must be text, is {type(value).__name__}")
    text = str(value).strip()
    if not text or len(text.encode()) > TEXT_LIMIT:
        raise ValueError(f"a label must have 1 to {TEXT_LIMIT} bytes, is {text[:40]!r}")
    return text


def take_path(value: object, folder: str = "") -> str:
    """The path of an image below the root, from a path below a folder; backslashes count as slashes.

    Raises:
        ValueError: it is empty, absolute, or leads out of the root.
    """
    text = str(value).replace("\\", "/")
    parts: list[str] = []
    for part in (*folder.split("/"), *text.split("/")):
        if part == "..":
            if not parts:
                raise ValueError(f"the image {str(value)[:80]!r} lies outside the folder")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if text.startswith("/") or _DRIVE.match(text) or not parts or "\0" in text:
        raise ValueError(f"the image {str(value)[:80]!r} lies outside the folder")
    return "/".join(parts)
