"""The codecs of Zarr arrays: what they are called, and what they are for arrays of other dtypes."""

from __future__ import annotations

from typing import Any

from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

__all__ = ["compressor_of", "name_of_compressor", "reads_in_part"]

# Codecs that check nothing, or all that they decode: a chunk may be read in part.
_UNCHECKED = {"zstd", "gzip", "blosc", "zlib", "lz4", "lzma", "shuffle", "transpose"}


def compressor_of(array: Any) -> Any:
    """Return the array's compressor as one that suits any dtype of a Zarr v3 array.

    ``None`` for none, ``"auto"`` (zarr's default) where it has no such form.
    """
    if not array.compressors:
        return None
    config = _codec_config(array.compressors[0])
    name = config["id"]
    if name == "zstd":
        return ZstdCodec(level=config["level"], checksum=False)
    if name == "gzip":
        return GzipCodec(level=config["level"])
    if name == "blosc":
        shuffle = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}.get(
            config["shuffle"], config["shuffle"]
        )
        shuffle = "shuffle" if shuffle == -1 else shuffle
        return BloscCodec(cname=config["cname"], clevel=config["clevel"], shuffle=shuffle)
    return "auto"


def reads_in_part(array: Any) -> bool:
    """Return whether no codec has a checksum that is only checked where a chunk is read whole."""
    codecs = (*array.filters, *array.compressors)
    names = (str(_codec_config(codec)["id"]).removeprefix("numcodecs.") for codec in codecs)
    return all(name in _UNCHECKED for name in names)


def _codec_config(codec: Any) -> dict[str, Any]:
    """Return a v2 or v3 compressor as one flat mapping with its ``id``."""
    if hasattr(codec, "get_config"):
        return dict(codec.get_config())
    described = codec.to_dict()
    return {"id": described["name"], **described.get("configuration", {})}


def name_of_compressor(array: Any) -> str:
    """Return an array's compressor in words: ``zstd level 3``."""
    if not array.compressors:
        return "none"
    config = _codec_config(array.compressors[0])
    level = config.get("clevel", config.get("level"))
    inner = f" {config['cname']}" if "cname" in config else ""
    return f"{config['id']}{inner}" + ("" if level is None else f" level {level}")
