"""Shares with their intervals."""

import math
from dataclasses import dataclass

Z = 1.959964  # of 95 %


@dataclass(frozen=True)
class Rate:
    """`count` of `total` with the ends of its 95 % interval; 0 to 1 where the total is 0."""

    count: int
    total: int
    lower: float
    upper: float


def make_rate(count: int, total: int) -> Rate:
    """Give a share its interval (Wilson, "Probable inference", JASA 22, 1927), which is honest near 0 and 1, too."""
    if total == 0:
        return Rate(0, 0, 0.0, 1.0)
    share, weight = count / total, Z * Z / total
    centre = (share + weight / 2) / (1 + weight)
    reach = Z / (1 + weight) * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    lower = 0.0 if count == 0 else max(0.0, centre - reach)
    return Rate(count, total, lower, 1.0 if count == total else min(1.0, centre + reach))
