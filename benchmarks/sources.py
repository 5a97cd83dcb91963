"""The images that are filtered: a mosaic, a volume cut from it, and the mosaic as TIFF."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.measure import child, measure, say

__all__ = ["CODECS", "Image", "base_of", "make", "make_base", "zarr_codec"]

Kind = Literal["mosaic", "volume"]

# As they stand in a YAML job.
CODECS: dict[str, Any] = {
    "lz4": {"blosc": {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle"}},
    "zstd": {"zstd": 3},
    "none": "none",
}


@dataclass(frozen=True)
class Image:
    """An image of uint16, by the side of its mosaic, in chunks of so many pixels a side.

    A mosaic of side 16384 goes with a volume of 512 x 1024 x 1024, chunks of 1024 a side with
    64 x 256 x 256.
    """

    kind: Kind
    side: int
    chunks: int
    codec: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along every axis."""
        return self._sides(self.side, 32, 16)

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Pixels of a chunk."""
        asked = self._sides(self.chunks, 16, 4)
        return tuple(min(c, n) for c, n in zip(asked, self.shape, strict=True))

    def block(self, side: int) -> tuple[int, ...]:
        """Return a block of whole chunks, at most `side` a side and half of the image."""
        asked = zip(self._sides(side, 16, 4), self.chunk_shape, self.shape, strict=True)
        return tuple(max(min(b, n // 2) // c, 1) * c for b, c, n in asked)

    @property
    def megapixels(self) -> float:
        """Pixels of the image, in millions."""
        pixels = 1
        for n in self.shape:
            pixels *= n
        return pixels / 1e6

    def path(self, folder: Path) -> Path:
        """Return where it is kept."""
        return folder / f"{self.kind}-{self.side}-{self.chunks}-{self.codec}.zarr"

    def tiff(self, folder: Path) -> Path:
        """Return where it is kept as TIFF."""
        return folder / f"{self.kind}-{self.side}.tif"

    def _sides(self, side: int, depth: int, width: int) -> tuple[int, ...]:
        if self.kind == "mosaic":
            return (side, side)
        return (max(side // depth, 1), *2 * (max(side // width, 1),))


def make_base(folder: Path, side: int) -> Path:
    """Make the mosaic that every image is cut from, unless it is there from an earlier run."""
    path = base_of(folder, side)
    if not _complete(path):
        say(f"making {path}")
        measure(child("sources.write_base", path=str(path), side=side))
    return path


def base_of(folder: Path, side: int) -> Path:
    """Return where the mosaic is that every image is cut from."""
    return folder / f"base-{side}.zarr"


def make(folder: Path, base: Path, images: Iterable[tuple[Image, bool]]) -> None:
    """Make images, each also as TIFF where asked, unless they are there."""
    for image, tiff in dict.fromkeys(images):
        path = image.path(folder)
        if not _complete(path):
            say(f"making {path}")
            measure(child("sources.write", base=str(base), path=str(path), image=asdict(image)))
        if tiff and not image.tiff(folder).exists():
            say(f"making {image.tiff(folder)}")
            measure(child("sources.write_tiff", source=str(path), path=str(image.tiff(folder))))


def _complete(path: Path) -> bool:
    mark = path / "zarr.json"
    return mark.is_file() and bool(
        json.loads(mark.read_text("utf-8"))["attributes"].get("complete")
    )


def zarr_codec(name: str) -> Any:
    """Return a codec for zarr, by its name in `CODECS`."""
    from zarr.codecs import BloscCodec, ZstdCodec

    if name == "none":
        return None
    ((kind, options),) = CODECS[name].items()
    return ZstdCodec(level=options) if kind == "zstd" else BloscCodec(**options)


# Called in processes of their own.


def write_base(path: str, side: int) -> dict[str, Any]:
    """Write the mosaic."""
    from chunkfilt.demo import make_mosaic

    make_mosaic(path, shape=(side, side), chunks=min(1024, side))
    return {}


def write(base: str, path: str, image: dict[str, Any]) -> dict[str, Any]:
    """Write an image cut from the mosaic, in chunks and with a codec of its own."""
    import numpy as np
    import zarr

    asked = Image(**image)
    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    mosaic = zarr.open_array(base, mode="r")
    made = zarr.create_array(
        path,
        shape=asked.shape,
        chunks=asked.chunk_shape,
        dtype="uint16",
        fill_value=0,
        compressors=zarr_codec(asked.codec),
        dimension_names="yx" if asked.kind == "mosaic" else "zyx",
        attributes={"complete": False},
        overwrite=True,
    )
    rows = asked.chunk_shape[0]
    if asked.kind == "mosaic":
        for top in range(0, asked.side, rows):
            made[top : top + rows] = mosaic[top : min(top + rows, asked.side), : asked.side]
    else:
        # Every plane is a window of the mosaic, one pixel further down and to the right.
        depth, height, width = asked.shape
        wide = np.asarray(mosaic[: height + depth, : width + depth])
        for top in range(0, depth, rows):
            planes = range(top, min(top + rows, depth))
            made[top : top + rows] = np.stack([wide[z:, z:][:height, :width] for z in planes])
    made.update_attributes({"complete": True})
    return {}


def write_tiff(source: str, path: str) -> dict[str, Any]:
    """Write an image as TIFF, uncompressed, as libvips does by default."""
    import numpy as np
    import pyvips
    import zarr

    pixels = np.asarray(zarr.open_array(source, mode="r")[:])
    partial = f"{path}.partial.tif"
    pyvips.Image.new_from_array(pixels).tiffsave(partial, bigtiff=True)
    Path(partial).replace(path)
    return {}
