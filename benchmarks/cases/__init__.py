"""Every filter with its cases: the only list of them.

A filter that is declared in `chunkfilt.filters` needs a case here: in `order` if it orders the
pixels of a window, in `sums` if it adds them up, in `pixels` if it takes them one by one.
"""

from __future__ import annotations

from benchmarks.cases import order, pixels, sums
from benchmarks.cases.case import Case

__all__ = ["CASES", "Case", "by_filter"]

CASES: tuple[Case, ...] = (*order.CASES, *sums.CASES, *pixels.CASES)


def by_filter() -> dict[str, list[Case]]:
    """Return the cases of each filter, the filters in the order of the table."""
    found: dict[str, list[Case]] = {}
    for case in CASES:
        found.setdefault(case.filter, []).append(case)
    return found
