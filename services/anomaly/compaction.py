"""Which segments of a bank are worth writing again.

Enrolling merges only what is small, so that nobody waits for more than a few megabytes. A segment that is too large
for that is settled, with all before it: only compaction merges it, so that enrolling, however often, does not undo
what compaction is at. Compaction merges settled segments as long as the last of them are together as large as the one
before (Bentley and Saxe 1980): a row is written again about log2(n) times in its life. It also builds the index of
large segments, and takes forgotten rows out of the store.
"""

from dataclasses import dataclass

from services.anomaly.engines.engine import Layout
from services.anomaly.rows import Rows
from services.anomaly.segment import Segment
from services.anomaly.snapshot import Snapshot


@dataclass(frozen=True)
class Sizes:
    """What is small and what is large."""

    quick_bytes: int = 4 << 20  # of vectors: most that an enrolment writes again
    indexed_rows: int = 10_000  # from so many rows on a segment gets lists
    largest_bytes: int = 512 << 20  # of vectors: beyond it the search through one more segment is cheaper than a merge


SIZES = Sizes()


def is_mergeable(last: Segment, added: Rows, sizes: Sizes) -> bool:
    """Whether an enrolment merges the last segment with what it adds."""
    smaller = len(last.rows.owners) <= len(added.owners)
    return smaller and last.rows.vectors.nbytes + added.vectors.nbytes <= sizes.quick_bytes


def is_large(rows: Rows, layout: Layout, sizes: Sizes) -> bool:
    """Whether rows get lists: not where they are searched cell by cell or not at all."""
    searched = layout.arrangement in {"flat", "cosine"}
    return searched and len(rows.owners) >= sizes.indexed_rows and len(rows.items) > 1


def find_stale(snapshot: Snapshot, layout: Layout, sizes: Sizes) -> tuple[Segment, ...]:
    """The next segments, of one category, to be written again as one; none where all is well."""
    for category in snapshot.categories:
        merged = _find_run(snapshot.of(category), sizes)
        if len(merged) > 1:
            return merged
    for segment in snapshot.segments:
        if snapshot.gone(segment) or (segment.inverted is None and is_large(segment.rows, layout, sizes)):
            return (segment,)
    return ()


def _find_run(snapshot: Snapshot, sizes: Sizes) -> tuple[Segment, ...]:
    """The longest run at the end of the settled segments whose first one is no larger than the rest together."""
    settled = _list_settled(snapshot.segments, sizes)
    run, rest_bytes = len(settled), 0
    for number in range(len(settled) - 1, -1, -1):
        size_bytes = settled[number].rows.vectors.nbytes
        if rest_bytes + size_bytes > sizes.largest_bytes:
            break
        if size_bytes <= rest_bytes:
            run = number
        rest_bytes += size_bytes
    return settled[run:]


def _list_settled(segments: tuple[Segment, ...], sizes: Sizes) -> tuple[Segment, ...]:
    """Up to the last one that no enrolment can merge."""
    large = [number for number, segment in enumerate(segments) if 2 * segment.rows.vectors.nbytes > sizes.quick_bytes]
    return segments[: large[-1] + 1] if large else ()
