"""One row of the table of every filter: what chunkfilt computes, and what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CLOSE", "INTEGERS", "ORDER", "REALS", "WINDOWS", "Case"]

# How many times as fast as the reference what orders the pixels of a window is to be, from
# windows of 5 x 5 on. Everything else is to be as fast at least.
ORDER = 10.0
CLOSE = 1e-6

INTEGERS = ("uint16", "uint8")
REALS = ("uint16", "float32")
WINDOWS = ("uint16", "uint8", "float32")


@dataclass(frozen=True)
class Case:
    """A filter with parameters.

    Attributes
    ----------
    filter : str
        Of chunkfilt.
    params : mapping
        Its parameters.
    reference : str
        The function that it is compared with, a dotted name: ``ndimage`` stands for
        ``scipy.ndimage``, ``own`` for `benchmarks.references`.
    theirs : mapping, optional
        The reference's parameters, where they are not the same.
    kinds : tuple of str
        The images that it is measured on, one after the other; see `benchmarks.cases.images`.
        The first is the one that is filtered from store to store.
    others : tuple
        Its further images or numbers.
    wide : bool
        The reference gets the image as float64: it is a measure.
    gives : str
        The dtype in which chunkfilt stores a measure of these images.
    tolerance : float
        How far the results may be apart, over the reference's largest value.
    target : float
        How many times as fast as the reference chunkfilt is to be on one thread.
    side : int
        Pixels a side of the image that the reference gets: slow ones get a small one.
    halo : int
        Pixels around a block that the reference needs.
    lazily : str
        What a user of dask calls, where that is not the reference mapped over blocks.
    beside : str
        The reference for people, where its name does not tell.
    opencv : str
        A function of `benchmarks.opencv` that computes the same, if there is one.
    own_side : int
        Pixels a side of the image that chunkfilt gets: less for banks, whose outputs are many.
    """

    filter: str
    params: Mapping[str, Any]
    reference: str
    theirs: Mapping[str, Any] | None = None
    kinds: tuple[str, ...] = ("uint16",)
    others: tuple[str | float, ...] = ()
    wide: bool = False
    gives: str = "float32"
    tolerance: float = 0.0
    target: float = 1.0
    side: int = 2048
    halo: int = 0
    lazily: str = ""
    beside: str = ""
    opencv: str = ""
    own_side: int = 2048

    @property
    def title(self) -> str:
        """The parameters, for people."""
        said = [f"{name} {_shown(value)}" for name, value in self.params.items()]
        return ", ".join(said).replace("footprint ", "") or "defaults"

    @property
    def peer(self) -> str:
        """The reference, for people."""
        return self.beside or self.reference.replace("ndimage.", "scipy.ndimage.")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    shape = getattr(value, "shape", None)
    if shape:
        return " x ".join(map(str, shape))
    if isinstance(value, (list, tuple)):
        return " ".join(map(_shown, value)) if len(value) < 5 else f"of {len(value)}"
    return str(value).rpartition(":")[2]
