"""The audit log: one JSON line on standard error for every change, whatever the log level."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.runtime.traces import current_trace_id

MOST_NAMES = 20
MOST_LETTERS = 200
"""A name may come from a request that is refused, so it may be anything."""


@dataclass(frozen=True)
class Change:
    """Who changed what, and how that went. Nothing here comes from a header but the request id."""

    subject: str
    tenant: str
    peer: str
    """Address of the other end, as gRPC writes it."""
    certificate: str
    """Common name of the client's certificate; empty without one."""
    rpc: str
    resources: Sequence[str]
    """Names of data sets, detectors, classifiers, items and operations."""
    outcome: str
    """Status code; BEGUN for a stream of changes that is under way."""
    request_id: str
    frames: int | None = None
    """Frames of a stream that were answered, and how many of them with an error."""
    frame_errors: int | None = None


def write_change(change: Change) -> None:
    """Writes the line, in one piece."""
    line = {"event": "audit", "level": "audit", "timestamp": datetime.now(UTC).isoformat()}
    line["trace_id"] = current_trace_id()
    fields = {name: value for name, value in vars(change).items() if value is not None}
    fields["resources"] = [name[:MOST_LETTERS] for name in change.resources[:MOST_NAMES]]
    sys.stderr.write(json.dumps(line | fields) + "\n")
    sys.stderr.flush()
