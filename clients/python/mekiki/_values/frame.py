"""What goes through a stream."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from mekiki.errors import Internal, MekikiError

T = TypeVar("T")


@dataclass(frozen=True)
class Frame(Generic[T]):
    """An input of a stream with a tag of the caller's; a bare input is tagged with its running number."""

    value: T
    id: str


@dataclass(frozen=True)
class Answer(Generic[T]):
    """The answer to one frame of a stream: a value, or the error of this frame alone.

    One bad frame does not end a stream, so nothing is raised until somebody asks for the value that is not there.
    """

    id: str
    """The frame's tag."""

    result: T | None
    """The value; None where the frame failed."""

    error: MekikiError | None
    """What was wrong with this frame; None where it has a value."""

    @property
    def value(self) -> T:
        """The value.

        Raises:
            MekikiError: the frame's own error, where it has one.
        """
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise Internal(f"frame {self.id!r} has neither a value nor an error")
        return self.result
