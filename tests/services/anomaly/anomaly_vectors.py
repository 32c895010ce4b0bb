"""Embeddings with known neighbours, and what a bank must answer, computed plainly."""

import numpy as np

from services.anomaly.compaction import Sizes
from services.anomaly.engines.engine import Embedding, Layout

GRID = (4, 6)
FLAT = Layout("flat", 8)
CELLS = Layout("cells", 8, GRID)
SMALL = Sizes(quick_bytes=400, indexed_rows=40, largest_bytes=1 << 20)  # 16 bytes a vector: much to compact


def embed(seed, count=24, cells=None):
    random = np.random.default_rng(seed)
    place = np.arange(count) % 24 if cells is None else cells
    vectors = random.normal(size=(len(place), 8)).astype(np.float16)
    return Embedding(vectors, np.asarray(place, np.int32), GRID)


def search_plainly(contributions, query, *, by_position):
    """Distance and item of the nearest vector for each query, ties to the first item, whatever the category."""
    answers = []
    for vector, cell in zip(query.vectors.astype(np.float32), query.cells, strict=True):
        found = []
        for item, _, embedding in contributions:
            difference = embedding.vectors.astype(np.float32) - vector
            distances = np.sqrt((difference * difference).sum(axis=1))
            if by_position:
                rows, columns = np.divmod(embedding.cells, GRID[1])
                row, column = divmod(cell, GRID[1])
                distances = distances[(abs(rows - row) <= 1) & (abs(columns - column) <= 1)]
            found += [(distance, item) for distance in distances]
        answers.append(min(found))
    return answers


def check_rows(bank):
    """Every live item has its four vectors, exactly once."""
    items = sorted(bank.snapshot.items)
    numbers = [int(item.split()[1]) for item in items]
    expected = np.concatenate([embed(number, count=4).vectors for number in numbers]) if items else np.zeros((0, 8))
    found = bank.snapshot.all_vectors() if items else np.zeros((0, 8))
    assert found.shape == expected.shape
    assert (found == expected).all()
