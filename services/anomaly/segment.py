"""An immutable piece of a bank: the vectors of some normal items, and the index that searches them."""

import numpy as np

from services.anomaly.cell_index import CellIndex
from services.anomaly.engines.engine import Layout
from services.anomaly.inverted import Inverted
from services.anomaly.rows import Rows
from services.anomaly.vector_index import VectorIndex


class Segment:
    """Rows with their index. Never changed after construction; many threads may search it (see `nearest`)."""

    def __init__(
        self,
        key: str,
        sha256: str,
        rows: Rows,
        layout: Layout,
        inverted: Inverted | None = None,
        category: str = "",
    ) -> None:
        self.key = key
        self.sha256 = sha256
        self.rows = rows
        self.category = category  # of all its items
        self.inverted = inverted
        self.names = np.array(rows.items, dtype=object)  # (items,)
        self.index = _open_index(rows, layout, inverted)  # None where rows are never searched one by one


def _open_index(rows: Rows, layout: Layout, inverted: Inverted | None) -> VectorIndex | CellIndex | None:
    if layout.arrangement == "stack":
        return None
    return VectorIndex(rows, layout, inverted) if layout.grid is None else CellIndex(rows, layout.grid)
