"""Whom long work tells how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Takes reports, and keeps the notes of the work for a successor."""

    def report(self, phase: str, done: int, total: int) -> None:
        """Takes note; raises Cancelled to stop the work."""

    def save(self, notes: bytes) -> None:
        """Keeps the notes for a successor."""

    def load(self) -> bytes | None:
        """Returns a predecessor's notes."""
