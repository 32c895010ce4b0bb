"""What a person has said of a box, and how sure a machine was: as the formats that have room for it carry them."""

from collections.abc import Mapping
from typing import Any

from mekiki import AnnotationState
from mekiki.formats.guard import take_number


def take_score(attributes: Mapping[str, Any]) -> float:
    """A confidence, 1 where none is told; raises ValueError for one outside 0 to 1."""
    told = attributes.get("score")
    score = 1.0 if told in (None, "") else take_number(told, "score")
    if not 0 <= score <= 1:
        raise ValueError(f"score must be 0 to 1, is {score}")
    return score


def take_state(attributes: Mapping[str, Any]) -> AnnotationState:
    """A state; what comes from elsewhere, where people draw, is accepted."""
    told = attributes.get("state")
    return AnnotationState(told) if told in set(AnnotationState) else AnnotationState.ACCEPTED
