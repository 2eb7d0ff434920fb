"""One rule of rounding for all numbers that stand in one column, so that equal texts are equal numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

MOST_DECIMALS = 6
USUAL = 4  # where nothing is known of the uncertainty


def shared_decimals(values: Sequence[float], halves: Sequence[float | None]) -> int | None:
    """Decimals for ``values`` that stand below one another: those that show two digits of the median of ``halves``,
    their uncertainties; four, or four digits of the largest value where four decimals say little, where there is none.

    None where it takes more than six decimals: such numbers are written with an exponent.
    """
    known = [half for half in halves if half and math.isfinite(half)]
    if known:
        places = 1 - math.floor(math.log10(statistics.median_low(known)))
    else:
        largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
        usual = largest == 0 or 1e-3 <= largest < 100
        places = USUAL if usual else USUAL - 1 - math.floor(math.log10(largest))
    return max(0, places) if places <= MOST_DECIMALS else None


def rounded(value: float, decimals: int | None) -> float:
    """``value`` as it is shown: what is written alike is coloured and ordered alike."""
    return float(f"{value:.3e}") if decimals is None else round(value, decimals)
