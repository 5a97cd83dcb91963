"""Write units: the files of an output array, which appear whole or not at all.

A writer (a thread of a process) has a Zarr array of its own beside the output, of the same
metadata. A region is written there, each file is summed while it is still in the page cache, and
then renamed into its place: one step for the file system. Whoever is killed leaves nothing torn,
and two that write the same unit at once replace a file by an equal one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr

from chunkfilt.errors import RunError
from chunkfilt.grid import Blocks, Region
from chunkfilt.kernels.unit_checksums import unit_checksums
from chunkfilt.storage.zarr_store import ZarrImage, pipeline

__all__ = ["OutputArray", "Unit"]

_TEXT = re.compile(r"(0|[1-9][0-9]*):([0-9a-f]{16}):(?:-|(0|[1-9][0-9]*):([0-9a-f]{8}))")
# Bytes of a file that are summed at a time: they stay in the core's cache.
_PIECE = 1 << 18
# The staged arrays of this thread, by process and staging folder: a fork has its own.
_staged = threading.local()


@dataclass(frozen=True, slots=True)
class Unit:
    """One write unit as it is stored.

    Attributes
    ----------
    index : int
        Its C-order number in the array's grid of write units.
    checksum : int
        `kernels.checksum.image_checksum` of its pixels at their place in the whole image.
    file : (int, int) or None
        Bytes and CRC-32C of its file; None where it has none, being nothing but fill values.
    """

    index: int
    checksum: int
    file: tuple[int, int] | None

    def text(self) -> str:
        """Return the unit as it is recorded.

        >>> Unit(12, 255, (1834, 0xABC)).text(), Unit(3, 0, None).text()
        ('12:00000000000000ff:1834:00000abc', '3:0000000000000000:-')
        """
        file = "-" if self.file is None else f"{self.file[0]}:{self.file[1]:08x}"
        return f"{self.index}:{self.checksum:016x}:{file}"

    @classmethod
    def parse(cls, text: str) -> Unit:
        """Return the unit that a text records.

        Raises
        ------
        ValueError
            If it records none.
        """
        found = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            message = f"not the record of a write unit: {text!r:.80}"
            raise ValueError(message)
        index, checksum, size, crc = found.groups()
        file = None if size is None else (int(size), int(crc, 16))
        return cls(int(index), int(checksum, 16), file)


@dataclass(frozen=True)
class OutputArray:
    """An array that is being written; `image` reads it.

    Travels to workers by pickle: it is paths only. `staging` is a folder of this array alone, on
    the output's file system and outside its store.
    """

    image: ZarrImage
    staging: Path

    @property
    def units(self) -> Blocks:
        """The regions of the write units, in C order."""
        return Blocks(self.image.spec.shape, self.image.unit)

    def region_of(self, index: int) -> Region:
        """Return the pixels of a write unit."""
        return self.units[index]

    def unit_numbers(self, region: Region) -> list[int]:
        """Return the numbers of the write units that a region consists of.

        Raises
        ------
        ValueError
            If it is not of whole units; those at the image's edge end with it.
        """
        shape, unit = self.image.spec.shape, self.image.unit
        axes = list(zip(region.start, region.stop, unit, shape, strict=True))
        if any(a % u or (b % u and b != n) or b > n for a, b, u, n in axes):
            message = f"{region} does not consist of whole write units of {unit} pixels"
            raise ValueError(message)
        if not region.size:
            return []
        numbers = [0]
        for (a, b, u, _), count in zip(axes, self.units.counts, strict=True):
            along = range(a // u, -(-b // u))
            numbers = [number * count + i for number in numbers for i in along]
        return numbers

    def write(self, region: Region, data: np.ndarray) -> tuple[Unit, ...]:
        """Store a region of whole write units: each appears whole, or not at all.

        Returns
        -------
        tuple of Unit
            One for each write unit, in C order.

        Raises
        ------
        RunError
            If the file system refuses it; its cause is the `OSError`. What was not stored by then
            is as it was.
        """
        if data.shape != region.shape or data.dtype != self.image.spec.dtype:
            message = f"{data.dtype} {data.shape} for {self.image.spec.dtype} {region.shape}"
            raise ValueError(message)
        numbers = self.unit_numbers(region)
        if not numbers:
            return ()
        sums = unit_checksums(data, region.start, self.image.spec.shape, self.image.unit)
        try:
            folder, array = self._stage()
            array[region.slices] = data
            files = [self._settle(folder, number, region, data) for number in numbers]
        except BaseException as error:
            self._unstage()
            reason = _system_error(error)
            if reason is None:
                raise
            what = reason.strerror or reason
            raise RunError(f"cannot write to {self.image.path}: {what}") from reason
        return tuple(Unit(*one) for one in zip(numbers, sums, files, strict=True))

    def check(self, unit: Unit) -> str | None:
        """Return what is wrong with the file of a write unit, or None; nothing is decoded."""
        file = f"{self.image.path}/{self._key(unit.index)}"
        if unit.file is None:
            return "should not exist" if os.path.lexists(file) else None
        try:
            found = os.stat(file).st_size
            if found != unit.file[0]:
                return f"is {found} bytes instead of {unit.file[0]}"
            return None if _sums(file) == unit.file else "is not what was written"
        except (FileNotFoundError, NotADirectoryError):
            return "is missing"
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"

    def name_of(self, index: int) -> str:
        """Return a unit's file and the pixels it holds, in words."""
        axes = self.image.spec.axes
        place = zip(axes, self.region_of(index).runs, strict=True)
        where = ", ".join(f"{axis} {a}:{b}" for axis, ((a, b),) in place)
        return f"{self.image.path}/{self._key(index)} ({where})"

    def _key(self, index: int) -> str:
        """Return the path of a unit's file within the store."""
        places = []
        for count in reversed(self.units.counts):
            index, along = divmod(index, count)
            places.append(str(along))
        return "/".join(["c", *reversed(places)])

    def _stage(self) -> tuple[Path, Any]:
        """Return this thread's folder under `staging`, and the array in it."""
        held = _staged.__dict__
        key = f"{os.getpid()}:{self.staging}"
        if key not in held or not held[key][0].exists():
            # Folders go when an output is begun again; so do the arrays that stood in them.
            for gone in [k for k, (folder, _) in held.items() if not folder.exists()]:
                del held[gone]
            held[key] = self._new_stage()
        return held[key]

    def _new_stage(self) -> tuple[Path, Any]:
        # Whoever creates or opens the output makes `staging`, and removes it: where it is gone,
        # so is the run that this writer belonged to, and nothing of its is to appear any more.
        host = re.sub(r"[^\w.-]", "_", socket.gethostname())[:64]
        # Containers may share a host's name and number their processes alike: hence a random end.
        name = f"{host}-{os.getpid()}-{threading.get_ident()}-"
        folder = Path(tempfile.mkdtemp(prefix=name, dir=self.staging))
        shutil.copyfile(Path(self.image.path) / "zarr.json", folder / "zarr.json")
        # The chunks of a shard follow each other as they are done: on one thread, in order.
        threads = {} if self.image.shards is None else {"threading.max_workers": 1}
        with pipeline(), zarr.config.set(threads):
            return folder, zarr.open_array(str(folder), mode="r+")

    def _is_empty(self, number: int, region: Region, data: np.ndarray) -> bool:
        """Return whether a unit holds nothing but fill values."""
        pixels = data[self.region_of(number).shift(tuple(-a for a in region.start)).slices]
        fill = self.image.spec.nodata or 0
        return bool(np.all(np.isnan(pixels) if np.isnan(fill) else pixels == fill))

    def _unstage(self) -> None:
        """Drop what this thread has staged, half written as it may be."""
        folder, _ = _staged.__dict__.pop(f"{os.getpid()}:{self.staging}", (None, None))
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _settle(
        self, folder: Path, number: int, region: Region, data: np.ndarray
    ) -> tuple[int, int] | None:
        """Move a unit's file from the stage to its place and return its sums; clear the place
        where there is none: nothing but fill values."""
        key = self._key(number)
        staged, place = f"{folder}/{key}", f"{self.image.path}/{key}"
        try:
            sums = _sums(staged)
        except FileNotFoundError:
            # None was made, or the stage is gone, and with it the right to change the output:
            # hence what is in the place is moved there, too, rather than removed.
            if not self._is_empty(number, region, data):
                raise
            with contextlib.suppress(FileNotFoundError):
                os.replace(place, f"{folder}/emptied")
            if os.path.lexists(place):
                raise
            return None
        try:
            os.replace(staged, place)
        except FileNotFoundError:
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staged, place)
        return sums


def _sums(file: str) -> tuple[int, int]:
    """Return the bytes of a file and their CRC-32C."""
    buffer = np.empty(_PIECE, np.uint8)
    # The library takes what cannot be written to.
    held = buffer.view()
    held.flags.writeable = False
    size = crc = 0
    with open(file, "rb", buffering=0) as stream:
        while read := stream.readinto(buffer.data):
            size += read
            crc = google_crc32c.extend(crc, held[:read])
    return size, crc


def _system_error(error: BaseException) -> OSError | None:
    """Return the system's error behind one of the codec pipeline, which gives a text only."""
    if isinstance(error, OSError) or not isinstance(error, RuntimeError):
        return error if isinstance(error, OSError) else None
    text = str(error)
    numbered = re.search(r"os error (\d+)", text)
    full = errno.ENOSPC if "No space left" in text else None
    number = int(numbered[1]) if numbered else full
    known = OSError(text) if number is None else OSError(number, os.strerror(number))
    known.__cause__ = error
    return known
