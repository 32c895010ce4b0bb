"""The words of the contract's enums: BACKGROUND_REMOVAL_AUTO on the wire is "auto" here."""

import re
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # a name that only the types have
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

Number = TypeVar("Number", bound=int)


def number_of(enum: "_EnumTypeWrapper[Number]", word: str) -> Number:
    """The enum's number for a word; an empty word is its UNSPECIFIED, which stands for the default."""
    return enum.Value(_prefix(enum) + (word.upper() or "UNSPECIFIED"))


def word_of(enum: "_EnumTypeWrapper[Number]", number: Number) -> str:
    """The word for an enum's number; empty for UNSPECIFIED."""
    word = enum.Name(number).removeprefix(_prefix(enum)).lower()
    return "" if word == "unspecified" else word


def _prefix(enum: "_EnumTypeWrapper[Number]") -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", enum.DESCRIPTOR.name).upper() + "_"
