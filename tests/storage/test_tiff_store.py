"""TIFF files read region by region: the same pixels and axes as tifffile finds in the whole."""

import os
import pickle
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import pyvips
import tifffile
from hypothesis import given
from hypothesis import strategies as st

import chunkfilt as cf
from chunkfilt.errors import InputError, MissingDependency, RunError, StorageError
from chunkfilt.grid import Region
from chunkfilt.storage import tiff_decoding
from chunkfilt.storage.images import open_image, open_images
from chunkfilt.storage.tiff_file import read_directories
from chunkfilt.storage.tiff_series import read_series
from tests.faults.tiffs import build

COMPRESSIONS = [None, "lzw", "zlib", "packbits", "lzma", "zstd", "jpeg"]
KINDS = {
    "gray": ((45, 61), {}),
    "pages": ((3, 45, 61), {"photometric": "minisblack"}),
    "rgb": ((45, 61, 3), {"photometric": "rgb"}),
    "planar": ((3, 45, 61), {"photometric": "rgb", "planarconfig": "separate"}),
    "five": ((2, 3, 45, 33), {"photometric": "minisblack"}),
}
LAYOUTS = {"strip": {}, "strips": {"rowsperstrip": 7}, "tiles": {"tile": (16, 32)}}


@pytest.fixture
def write(tmp_path):
    """Write pixels as a TIFF file with tifffile: ``path = write(pixels, ...)``."""

    def write(pixels, name="scan.tif", **options):
        path = tmp_path / name
        tifffile.imwrite(path, pixels, **options)
        return path

    return write


def pixels_of(shape, dtype, seed=0):
    """Return pixels that compress, of every byte."""
    ramp = np.random.default_rng(seed).integers(0, 250, shape) // 3
    return (ramp * (300 if np.dtype(dtype).itemsize > 1 else 1)).astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compression", COMPRESSIONS, ids=str)
def test_pixels_are_tifffiles(write, compression, kind, layout):
    shape, options = KINDS[kind]
    dtypes = ["uint8"] if compression == "jpeg" else ["uint8", "int16", "float32"]
    for number, dtype in enumerate(dtypes):
        more = {"byteorder": "<>"[number % 2], "bigtiff": number == 1, **options, **LAYOUTS[layout]}
        predictor = compression in ("lzw", "zlib", "zstd") and dtype != "int16"
        path = write(pixels_of(shape, dtype), compression=compression, predictor=predictor, **more)
        whole = tifffile.imread(path)
        image = cf.open(path)
        assert (image.shape, image.dtype) == (whole.shape, whole.dtype)
        np.testing.assert_array_equal(image[:], whole)
        window = tuple(slice(n // 5, n - n // 4) for n in whole.shape)
        np.testing.assert_array_equal(image[window], whole[window])


WRITTEN = [
    (compression, layout)
    for compression in ("none", "jpeg", "deflate", "lzw", "packbits")
    for layout in (
        {"bigtiff": True, "miniswhite": True},
        {"tile": True, "tile_width": 64, "tile_height": 48},
        {"tile": True, "pyramid": True},
        {"tile": True, "pyramid": True, "subifd": True},
        {"tile": True, "predictor": "horizontal"},
        {"tile": True, "predictor": "float"},
    )
    if "predictor" not in layout or compression in ("deflate", "lzw")
]


@pytest.mark.parametrize(("compression", "layout"), WRITTEN, ids=str)
def test_pixels_of_another_writer(tmp_path, compression, layout):
    """Files by libvips, which writes them with libtiff."""
    path = tmp_path / "vips.tif"
    dtype = "float32" if layout.get("predictor") == "float" else "uint8"
    for bands in (1, 3):
        image = pyvips.Image.new_from_array(pixels_of((150, 270, bands), dtype))
        image.tiffsave(str(path), compression=compression, **layout)
        names = list(open_images(path))
        with tifffile.TiffFile(path) as file:
            whole, first = file.pages[0].asarray(), file.pages[0]
            levels = [one.asarray() for one in first.pages or list(file.pages)[1:]]
        told = [f"0/{number}" for number in range(1, len(levels) + 1)]
        assert names == (["0", *told] if levels else [""])
        np.testing.assert_array_equal(cf.open(path, "0" if levels else None)[:], whole)
        for name, level in zip(told, levels, strict=True):
            np.testing.assert_array_equal(cf.open(path, name)[:], level)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint32", "int64", "float16", "float64",
                                   "complex64", "complex128"])  # fmt: skip
@pytest.mark.parametrize("byteorder", "<>")
def test_dtypes(write, dtype, byteorder):
    whole = pixels_of((20, 33), dtype) > 30 if dtype == "bool" else pixels_of((20, 33), dtype)
    image = cf.open(write(whole, byteorder=byteorder, photometric="minisblack"))
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image[3:, 5:30], whole[3:, 5:30])


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.integers(1, 4)),
    st.sampled_from([{}, {"rowsperstrip": 3}, {"tile": (16, 16)}]),
    st.sampled_from(["contig", "separate"]),
    st.sampled_from([None, "zlib"]),
    st.data(),
)
def test_any_region_of_any_shape(tmp_path_factory, shape, layout, planar, compression, data):
    pages, high, wide, samples = shape
    held = (pages, high, wide, samples) if planar == "contig" else (pages, samples, high, wide)
    if samples == 1:
        held = (pages, high, wide)
    path = tmp_path_factory.mktemp("any") / "any.tif"
    pixels = pixels_of(held, "uint16")
    options = {"photometric": "minisblack", "metadata": None, "compression": compression, **layout}
    with tifffile.TiffWriter(path) as writer:
        for page in pixels:
            more = {"planarconfig": planar} if samples > 1 else {}
            writer.write(page, **options, **more)
    image = open_image(path)
    whole = pixels.reshape(image.spec.shape)
    kept = [n for n in held if n > 1]
    assert [n for n in image.spec.shape if n > 1] == kept
    start = tuple(data.draw(st.integers(0, n - 1)) for n in whole.shape)
    stop = tuple(data.draw(st.integers(a, n)) for a, n in zip(start, whole.shape, strict=True))
    region = Region(start, stop)
    np.testing.assert_array_equal(image.read(region), whole[region.slices])


def test_axes_are_as_the_description_tells(write):
    five = pixels_of((2, 3, 4, 16, 24), "uint16")
    ome = write(five, "a.ome.tif", photometric="minisblack", metadata={"axes": "TZCYX"})
    assert cf.open(ome).axes == ("t", "z", "c", "y", "x")
    np.testing.assert_array_equal(cf.open(ome)[1, :, 2], five[1, :, 2])
    imagej = write(five, "b.tif", imagej=True, metadata={"axes": "TZCYX"})
    assert cf.open(imagej).axes == ("t", "z", "c", "y", "x")
    np.testing.assert_array_equal(cf.open(imagej)[:], five)
    own = write(five[0], "c.tif", photometric="minisblack", metadata={"axes": "ZCYX"})
    assert cf.open(own).axes == ("z", "c", "y", "x")
    plain = write(five[0, 0], "d.tif", photometric="minisblack", metadata=None)
    assert cf.open(plain).axes == ("i", "y", "x")
    assert open_image(plain).spec.spatial == (1, 2)
    assert open_image(plain, axes=list("zyx")).spec.spatial == (0, 1, 2)
    rgb = write(pixels_of((2, 16, 24, 3), "uint8"), "e.ome.tif", metadata={"axes": "TYXS"})
    assert cf.open(rgb).axes == ("t", "y", "x", "c")


@pytest.mark.parametrize("order", ["XYZCT", "XYCZT", "XYTCZ", "XYTZC"])
def test_planes_of_ome_are_where_it_says(tmp_path, order):
    """Directories in an order of their own, which only TiffData tells."""
    sizes = {"Z": 2, "C": 3, "T": 2}
    planes = pixels_of((12, 8, 9), "uint8")
    where = np.random.default_rng(1).permutation(12)
    data = []
    for index in np.ndindex(2, 3, 2):
        z, c, t = map(int, index)
        number = int(where[(z * 3 + c) * 2 + t])
        data.append(f'<TiffData IFD="{number}" FirstZ="{z}" FirstC="{c}" FirstT="{t}"/>')
    told = "".join(f' Size{axis}="{n}"' for axis, n in sizes.items())
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint8"'
        f' SizeX="9" SizeY="8"{told}>{"".join(data)}</Pixels></Image></OME>'
    )
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        for number, page in enumerate(planes):
            more = {"description": xml} if number == 0 else {}
            writer.write(page, metadata=None, photometric="minisblack", **more)
    image = cf.open(path)
    assert "".join(image.axes) == order[::-1].lower()[:3] + "yx"
    for z, c, t in np.ndindex(2, 3, 2):
        at = tuple({"z": z, "c": c, "t": t}[name] for name in image.axes[:3])
        np.testing.assert_array_equal(image[at], planes[where[(z * 3 + c) * 2 + t]])


def test_an_imagej_stack_behind_one_directory(tmp_path):
    """As ImageJ writes stacks above 4 GiB: one directory, then plane after plane."""
    planes = pixels_of((5, 12, 10), ">u2")
    path = tmp_path / "big.tif"
    told = "ImageJ=1.54f\nimages=5\nslices=5\n"
    tifffile.imwrite(path, planes[0], byteorder=">", description=told, metadata=None)
    with path.open("ab") as stream:
        tail = path.stat().st_size
        (first,) = read_directories(path)
        assert int(first.offsets[0]) + first.sizes[0] == tail, "nothing behind the plane"
        stream.write(planes[1:].tobytes())
    image = cf.open(path)
    assert image.axes == ("z", "y", "x")
    np.testing.assert_array_equal(image[:], planes)


def test_several_images_and_levels_are_named(tmp_path):
    path = tmp_path / "many.tif"
    large, small, other = (pixels_of(s, "uint8") for s in ((64, 96), (32, 48), (20, 21)))
    with tifffile.TiffWriter(path) as writer:
        writer.write(large, subifds=1, tile=(16, 16), metadata=None)
        writer.write(small, tile=(16, 16), subfiletype=1)
        writer.write(other, metadata=None)
    assert list(open_images(path)) == ["0", "0/1", "1"]
    with pytest.raises(StorageError, match=r"several images: name one .* \(0 \(64 y x 96 x\), 1"):
        cf.open(path)
    for name, whole in (("0", large), ("0/1", small), ("1", other)):
        np.testing.assert_array_equal(cf.open(path, name)[:], whole)
    with pytest.raises(StorageError, match="no array '2'"):
        cf.open(path, "2")


def test_overviews_behind_an_image_are_its_levels(tmp_path):
    """As GDAL writes a cloud-optimised GeoTIFF: smaller copies and masks follow in the chain."""
    path = tmp_path / "cog.tif"
    large, small = pixels_of((64, 96), "uint16"), pixels_of((32, 48), "uint16")
    with tifffile.TiffWriter(path) as writer:
        writer.write(large, tile=(16, 16), metadata=None, extratags=[(42113, "s", 0, "7", True)])
        writer.write(np.ones((64, 96), bool), subfiletype=4, metadata=None)
        writer.write(small, tile=(16, 16), subfiletype=1, metadata=None)
    assert list(open_images(path)) == ["0", "0/1"]
    image = cf.open(path)
    assert open_image(path).spec.nodata == 7
    np.testing.assert_array_equal(image[:], large)
    np.testing.assert_array_equal(cf.open(path, "0/1")[:], small)
    assert open_image(path, nodata=9).spec.nodata == 9


def test_it_travels_and_notices_another_file(write):
    path = write(pixels_of((30, 40), "uint16"), compression="zlib")
    image = open_image(path)
    away = pickle.loads(pickle.dumps(image))
    whole = Region((0, 0), (30, 40))
    np.testing.assert_array_equal(away.read(whole), image.read(whole))
    assert len(pickle.dumps(image)) < 2000, "its tables stay at home"
    away = pickle.loads(pickle.dumps(image))
    write(pixels_of((30, 41), "uint16"), compression="zlib")
    with pytest.raises(RunError, match="has been changed"):
        away.read(whole)


def test_rows_that_are_not_compressed_are_read_alone(write):
    """A plane of one strip, as most programs write it, is not read as a whole for a few rows."""
    image = open_image(write(np.zeros((3, 4096, 1024), "uint16"), photometric="minisblack"))
    assert image.chunks == (1, 512, 1024)
    place = Path(image.path)
    assert read_series(place, read_directories(place), plain=False)["0"].cell == (1, 4096, 1024)


@pytest.mark.parametrize("compression", [None, "zlib"], ids=str)
def test_a_run_equals_the_whole(write, tmp_path, compression):
    whole = pixels_of((150, 170), "uint16")
    path = write(whole, compression=compression, tile=(64, 48))
    out = tmp_path / "out.zarr"
    cf.save(cf.mean(cf.open(path), size=5), out, chunks=40, progress=False)
    np.testing.assert_array_equal(cf.open(out)[:], cf.mean(whole, size=5))


def test_a_job_names_an_image_of_a_file(tmp_path, make_job, cli):
    path = tmp_path / "many.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels_of((20, 21), "uint8"), metadata=None)
        writer.write(pixels_of((40, 30), "uint8"), metadata=None)
    job = make_job(
        "version: 1\ninput: {path: many.tif, array: '1'}\nsteps: [{mean: {size: 3}}]\n"
        "output: out.zarr\n"
    )
    assert cli("run", str(job))[0] == 0
    np.testing.assert_array_equal(
        cf.open(tmp_path / "out.zarr")[:], cf.mean(pixels_of((40, 30), "uint8"), size=3)
    )
    again = cf.to_yaml(cf.from_yaml(job), tmp_path / "again.yaml")
    assert 'array: "1"' in again
    code, told, _ = cli("rerun", "out.zarr")
    assert (code, "equal" in told) == (0, True)
    code, told, _ = cli("info", "many.tif")
    assert (code, "TIFF" in told, "40 y x 30 x" in told) == (0, True, True)


@pytest.mark.parametrize("compression", [33003, 50001, 34887, 6])
def test_what_is_not_decoded_is_named(write, compression):
    path = write(pixels_of((16, 16), "uint8"))
    raw = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].tags[259].valueoffset
    raw[at : at + 2] = compression.to_bytes(2, "little")
    path.write_bytes(raw)
    with pytest.raises(StorageError, match=r"its compression is .* chunkfilt reads none, lzw"):
        cf.open(path)


def test_without_the_extra_it_says_so(write, monkeypatch):
    path = write(pixels_of((16, 17), "uint8"), compression="zlib")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    tiff_decoding._page.cache_clear()
    with pytest.raises(MissingDependency, match=r'pip install "chunkfilt\[tiff\]"'):
        cf.open(path)


def test_bad_arguments(write):
    path = write(pixels_of((16, 16), "uint8"))
    for more in ({"missing": "zero"}, {"axes": "zyx"}, {"spatial": "q"}, {"nodata": 1.5}):
        with pytest.raises(InputError):
            cf.open(path, **more)
    with pytest.raises(StorageError, match="no array 'a'"):
        cf.open(path, "a")


OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"{own}>'
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="9"'
    ' SizeY="8" SizeZ="{planes}" SizeC="1" SizeT="1">{data}</Pixels></Image>{more}</OME>'
)


def write_ome(path, planes, data, own="", more="", told=None):
    """Write planes behind OME-XML of the TiffData elements given."""
    xml = OME.format(planes=told or len(planes), data=data, own=own, more=more)
    with tifffile.TiffWriter(path) as writer:
        for number, page in enumerate(planes):
            said = {"description": xml} if number == 0 else {}
            writer.write(page, metadata=None, photometric="minisblack", **said)
    return path


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ('<TiffData IFD="0"/>', "1 of 2 OME planes"),
        ('<TiffData IFD="0"/><TiffData IFD="0" FirstZ="1"/>', "told of twice"),
        ('<TiffData IFD="0"/><TiffData IFD="1"/>', "told of twice"),
        ('<TiffData/><TiffData FirstZ="1" IFD="1"><UUID>urn:b</UUID></TiffData>', "another file"),
        ('<TiffData><UUID FileName="b.tif">urn:b</UUID></TiffData>', "another file"),
        ('<TiffData IFD="7"/>', "in directory 7"),
    ],
)
def test_ome_planes_that_are_not_there(tmp_path, data, reason):
    planes = pixels_of((2, 8, 9), "uint8")
    path = write_ome(tmp_path / "a.ome.tif", planes, data)
    with pytest.raises(StorageError, match=f"{reason}.*its planes are taken as they come"):
        cf.open(path)
    with pytest.warns(UserWarning, match=reason):
        image = cf.open(path, axes="zyx")
    np.testing.assert_array_equal(image[:], planes)


def test_ome_of_this_file_by_its_uuid_and_with_quoted_text(tmp_path):
    planes = pixels_of((2, 8, 9), "uint8")
    data = '<TiffData PlaneCount="2"><UUID>urn:a</UUID></TiffData>'
    note = "<StructuredAnnotations><![CDATA[a < b]]></StructuredAnnotations>"
    path = write_ome(tmp_path / "a.ome.tif", planes, data, ' UUID="urn:a"', note)
    assert cf.open(path).axes == ("z", "y", "x")
    np.testing.assert_array_equal(cf.open(path)[:], planes)


def test_a_file_that_changes_is_not_read(write):
    """Also where its size stays, and where only what the bytes mean has changed."""
    whole = Region((0, 0), (20, 30))
    path = write(pixels_of((20, 30), "float32"))
    image = open_image(path)
    away = pickle.loads(pickle.dumps(image))
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].tags[339].valueoffset
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(b"\1\0")
    for one in (image, away):
        with pytest.raises(RunError, match="changed since it was opened"):
            one.read(whole)
    path.unlink()
    for one in (image, away):
        with pytest.raises(RunError, match="No such file"):
            one.read(whole)
    with pytest.raises(StorageError, match="No such file"):
        image.fingerprint()


def test_a_narrow_window_of_wide_rows_takes_little_memory(write):
    path = write(np.ones((200, 500_000), "uint16"), photometric="minisblack", metadata=None)
    image = open_image(path)
    assert image.read(Region((0, 0), (1, 1))) == 1
    tracemalloc.start()
    try:
        assert image.read(Region((50, 7), (150, 107))).all()
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", [None, "zlib"], ids=str)
def test_the_system_may_give_fewer_bytes_than_asked_for(write, monkeypatch, compression):
    whole, real = pixels_of((40, 30), "uint16"), os.pread
    path = write(whole, compression=compression)
    monkeypatch.setattr(os, "pread", lambda file, size, at: real(file, min(size, 100), at))
    np.testing.assert_array_equal(cf.open(path)[:], whole)


def test_tiles_that_were_left_out_are_the_files_fill(tmp_path):
    path = build(tmp_path / "a.tif", 32, 16, [b"\1" * 256, b""], tile=(16, 16))
    for more in ({}, {"nodata": 9}):
        image = open_image(path, **more).read(Region((0, 14), (1, 18)))
        assert image.tolist() == [[1, 1, 0, 0]]


@pytest.mark.parametrize("compression", ["none", "packbits"])
def test_a_predictor_belongs_to_the_other_compressions(tmp_path, compression):
    """As libtiff has it: it is ignored here."""
    row = bytes([1, 1, 1, 1])
    packed = row if compression == "none" else b"\xfd\1"
    code = 1 if compression == "none" else 32773
    build(tmp_path / "a.tif", 4, 1, [packed], compression=code, more=[(317, 3, (2,))])
    assert cf.open(tmp_path / "a.tif")[:].tolist() == [[1, 1, 1, 1]]
    vips = pyvips.Image.new_from_file(str(tmp_path / "a.tif"))
    assert vips.numpy().tolist() == [[1, 1, 1, 1]]


def test_planes_are_alike_wherever_their_strips_lie(tmp_path):
    """In one plane strips follow each other, in the next there is a gap."""
    planes = pixels_of((2, 8, 6), "uint8")
    path = tmp_path / "gap.tif"
    with tifffile.TiffWriter(path) as writer:
        for page in planes:
            writer.write(page, rowsperstrip=4, metadata=None, photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        tag = file.pages[1].tags[273]
        moved, start = path.stat().st_size, tag.value[1]
        at = tag.valueoffset + (tag.dtype == 4) * 2 + 2
    with path.open("r+b") as stream:
        stream.seek(start)
        strip = stream.read(24)
        stream.seek(at)
        stream.write(moved.to_bytes(at - tag.valueoffset, "little"))
        stream.seek(moved)
        stream.write(strip)
    np.testing.assert_array_equal(tifffile.imread(path, key=1), planes[1])
    np.testing.assert_array_equal(cf.open(path)[:], planes)


def test_one_image_that_is_not_read_does_not_hide_the_others(tmp_path):
    path = tmp_path / "many.tif"
    first = pixels_of((20, 21), "uint8")
    with tifffile.TiffWriter(path) as writer:
        writer.write(first, metadata=None)
        writer.write(pixels_of((9, 8), "uint8"), metadata=None)
    with tifffile.TiffFile(path) as file:
        at = file.pages[1].tags[259].valueoffset
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write((34712).to_bytes(2, "little"))
    np.testing.assert_array_equal(cf.open(path, "0")[:], first)
    with pytest.raises(StorageError, match="its compression is JPEG 2000"):
        cf.open(path, "1")
