"""What descriptions and foreign tags of a TIFF claim: believed only where the file bears it out."""

import numpy as np
import pytest
import tifffile

from chunkfilt.storage.images import open_image
from tests.faults.tiff_checks import read, refused, sound, useless
from tests.faults.tiffs import ASCII, BYTE, LONG, SHORT, build

PIXELS = np.random.default_rng(1).integers(1, 200, (3, 16, 24), dtype="uint8")
ATTRIBUTES = {
    "ID": "Pixels:0", "DimensionOrder": "XYCZT", "Type": "uint8", "SizeX": "24", "SizeY": "16",
    "SizeC": "1", "SizeZ": "1", "SizeT": "3",
}  # fmt: skip
HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
OPEN = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
PLANES = '<TiffData IFD="0" PlaneCount="3"/>'


def xml(planes=PLANES, *, head=HEAD, before="", after="", **changes):
    held = {name: text for name, text in (ATTRIBUTES | changes).items() if text is not None}
    told = " ".join(f'{name}="{text}"' for name, text in held.items())
    pixels = f"<Pixels {told}>{planes}</Pixels>"
    return f'{head}{OPEN}{before}<Image ID="Image:0">{pixels}</Image>{after}</OME>'


def described(folder, text, pixels=PIXELS, **options):
    """Write pages whose first has a description."""
    path = folder / "a.ome.tif"
    raw = text if isinstance(text, bytes) else text.encode()
    options = {"metadata": None, "software": False, "photometric": "minisblack", **options}
    tifffile.imwrite(path, pixels, description=raw, **options)
    return path


def test_a_good_ome_file(tmp_path):
    path = described(tmp_path, xml())
    np.testing.assert_array_equal(read(path), PIXELS)
    assert open_image(path).spec.axes == ("t", "y", "x")


NUMBERS = ("-1", "0", "1000000000", "1" + "0" * 18, "9" * 5000, "1.5", "x", "", "0x10", "٣", "nan")
OTHER = '<TiffData IFD="0"><UUID FileName="{}">urn:uuid:1</UUID></TiffData>' + PLANES
LAUGHS = "".join(
    f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "ha"}">' for n in range(10)
)  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=lambda text: text[:12])
@pytest.mark.parametrize("name", ["SizeX", "SizeY", "SizeC", "SizeZ", "SizeT"])
def test_sizes_that_an_ome_file_does_not_have(tmp_path, name, number):
    path = described(tmp_path, xml(**{name: number}))
    sound(path, PIXELS)


@pytest.mark.parametrize("name", ["SizeC", "SizeZ", "SizeT"])
@pytest.mark.parametrize("number", ["4", "1000000000", "1000000000000000000"])
@pytest.mark.parametrize("planes", [PLANES, "", "<TiffData/>"])
def test_planes_that_an_ome_file_does_not_have(tmp_path, name, number, planes):
    refused(described(tmp_path, xml(planes, **{name: number})), None)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda text: text[:12])
@pytest.mark.parametrize("name", ["IFD", "PlaneCount", "FirstZ", "FirstC", "FirstT"])
def test_places_that_planes_of_an_ome_file_cannot_have(tmp_path, name, number):
    held = {"IFD": "0", "PlaneCount": "3"} | {name: number}
    told = " ".join(f'{tag}="{text}"' for tag, text in held.items())
    planes = f"<TiffData {told}/>"
    sound(described(tmp_path, xml(planes)), PIXELS)


@pytest.mark.parametrize(
    "planes",
    [
        '<TiffData IFD="0" FirstT="0"/><TiffData IFD="0" FirstT="1"/>',
        '<TiffData IFD="2" PlaneCount="3"/>',
        '<TiffData IFD="3" PlaneCount="1"/>',
        '<TiffData FirstT="2" PlaneCount="3" IFD="0"/>',
        PLANES * 2,
        PLANES * 20_000,
        OTHER.format("b.ome.tif"),
        OTHER.format("../../../etc/passwd"),
        OTHER.format("/dev/zero"),
        OTHER.format("http://127.0.0.1:9/b.tif"),
        OTHER.format("x" * 100_000),
        "<BinData/>",
        "<MetadataOnly/>",
    ],
    ids=lambda text: text[:40],
)
def test_planes_of_an_ome_file_that_do_not_make_it_up(tmp_path, planes):
    """Planes twice or not at all are other pixels, or none; those told right are these."""
    path = described(tmp_path, xml(planes))
    if not planes.startswith(PLANES):
        useless(path)
    else:
        sound(path, PIXELS)


@pytest.mark.parametrize("name", ["b.ome.tif", "../b.ome.tif", "/dev/zero"])
def test_planes_of_an_ome_file_that_lie_in_another_file(tmp_path, name):
    described(tmp_path, xml()).rename(tmp_path / "b.ome.tif")
    refused(described(tmp_path, xml(OTHER.format(name))), "other file|another file")
    companion = f'{HEAD}{OPEN}<BinaryOnly MetadataFile="{name}" UUID="urn:uuid:1"/></OME>'
    sound(described(tmp_path, companion), PIXELS)


@pytest.mark.parametrize(
    "declaration",
    [
        f"<!DOCTYPE OME [{LAUGHS}]>",
        '<!DOCTYPE OME [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE OME SYSTEM "http://127.0.0.1:9/ome.dtd">',
        '<!DOCTYPE OME [<!ENTITY % a SYSTEM "file:///dev/zero"> %a;]>',
        f'<!DOCTYPE OME [<!ENTITY a "{"A" * 50_000}">]>',
        "<!DOCTYPE OME>",
        "<!dOcTyPe OME>",
        "\n\n<!-- x --> <!DOCTYPE\nOME []>",
    ],
    ids=lambda text: text[:40],
)
def test_declarations_in_an_ome_file(tmp_path, declaration):
    text = xml(head=HEAD + declaration, before=f"<Creator>{'&a9;' * 1000}</Creator>")
    refused(described(tmp_path, text), None)


@pytest.mark.parametrize(
    "text",
    [
        xml()[:-1],
        xml()[: len(xml()) // 2],
        HEAD + OPEN + "</OME>",
        xml(before="<a>" * 100_000),
        xml(before="<a>" * 100_000 + "</a>" * 100_000),
        xml(before="<Image/>" * 50_000),
        xml(before="<a " + " ".join(f'b{n}="1"' for n in range(50_000)) + "/>"),
        xml(before="&undefined;"),
        xml(before="&#0;"),
        xml(before="&#x110000;"),
        xml(after='<Image ID="Image:1"><Pixels/></Image>'),
        xml(head=HEAD.replace("UTF-8", "UTF-16")),
        xml(head=HEAD.replace("UTF-8", "unheard-of")),
        xml(head=HEAD.replace("UTF-8", "idna")),
        xml().encode("utf-16"),
        xml(before="<a>").encode() + b"\xff\xfe</a>",
        xml().replace(OPEN, "<OME>"),
        xml().replace("Image:0", "Image:0\0"),
        *(xml(DimensionOrder=order) for order in ("", "YXCZT", "XY", "XYCZTS", "XXXXX")),
        *(xml(Type=kind) for kind in ("", "object", "O", "uint16", "double", "uint8,uint8", "bit")),
        *(xml(**{name: None}) for name in ATTRIBUTES),
        xml(Interleaved="x", BigEndian="x", SignificantBits="x"),
        xml('<Channel SamplesPerPixel="1000000000"/>' + PLANES),
        xml('<Channel SamplesPerPixel="x"/>' + PLANES),
        xml("<Channel/>" * 50_000 + PLANES),
        xml("<TiffData><UUID/></TiffData>"),
        xml("<TiffData>" * 200),
        xml('<Plane TheT="x" TheZ="-1"/>' * 3 + PLANES),
    ],
    ids=lambda text: str(len(text)) + str(text[-60:-30]),
)  # fmt: skip
def test_ome_files_of_every_odd_kind(tmp_path, text):
    sound(described(tmp_path, text), PIXELS)


@pytest.mark.parametrize(
    "lines",
    [
        "images=1000000000", "images=4", "images=-3", "images=0", "images=x", "images=", "images",
        "images=" + "9" * 5000, "images=3\nchannels=1000000000", "images=3\nslices=1000000000",
        "images=3\nframes=-1", "images=3\nframes=0", "images=3\nslices=3\nframes=3\nchannels=3",
        "images=3\nslices=2", "images=3\nhyperstack=x", "=3\n=\n==", "images=3" * 20_000,
        "images=3\nmode=composite\nchannels=3", "images=1.5", "images=1e9", "images=٣", "\0", "é",
    ],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_descriptions_of_imagej_that_lie(tmp_path, lines):
    path = described(tmp_path, f"ImageJ=1.53c\n{lines}\n".encode())
    sound(path, PIXELS)


def hyperstack(folder, images, tail):
    """Write an ImageJ file of one directory, whose further planes follow the first one."""
    text = f"ImageJ=1.53c\nimages={images}\nframes={images}\nhyperstack=true\n".encode() + b"\0"
    path = build(folder / "a.tif", 24, 16, [PIXELS[0].tobytes()], order=">",
                 more=[("ImageDescription", ASCII, text)])  # fmt: skip
    with path.open("ab") as stream:
        stream.write(tail)
    return path


def test_planes_of_imagej_that_have_no_directory(tmp_path):
    tail = PIXELS[1:].tobytes()
    assert sound(hyperstack(tmp_path, 3, tail), PIXELS)
    for short in (tail[:-1], tail[:400], b""):
        useless(hyperstack(tmp_path, 3, short))
    for images in (4, 1000, 10**9, 10**18):
        useless(hyperstack(tmp_path, images, tail))


@pytest.mark.parametrize(
    "shape",
    [
        "[1000000000, 16, 24]", "[1000000000000000000000, 16, 24]", "[-3, 16, 24]", "[3, 16]",
        "[0]", "[]", "5", "null", '"x"', '["a", 16, 24]', "[3.5, 16, 24]", "[true, 16, 24]", "{}",
        "[" * 100_000, "[1" + "0" * 5000 + "]", "[NaN, 16, 24]", "[1e999]", "[3, 24, 16]",
        "[" + "1," * 5000 + "1]", "[4, 16, 24]", "[[3, 16, 24]]",
    ],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_shapes_that_are_absurd(tmp_path, shape):
    path = described(tmp_path, f'{{"shape": {shape}}}')
    found = sound(path, PIXELS) if shape != "[3, 24, 16]" else None
    assert found or found is None or useless(path) is None


@pytest.mark.parametrize("shape", ["[3, 16, 24]", "[1000000000, 16, 24]", "[4, 16, 24]"])
@pytest.mark.parametrize("short", [0, 1, 400, 768])
def test_shapes_of_pages_that_have_no_directory(tmp_path, shape, short):
    """As tifffile writes them with ``truncate=True``."""
    path = tmp_path / "a.tif"
    text = f'{{"shape": {shape}, "truncated": true}}'.encode() + b"\0"
    build(path, 24, 16, [PIXELS[0].tobytes()], more=[("ImageDescription", ASCII, text)])
    with path.open("ab") as stream:
        stream.write(PIXELS[1:].tobytes()[: 768 - short])
    if shape == "[3, 16, 24]" and not short:
        sound(path, PIXELS)
    else:
        useless(path)


FOREIGN = {
    "GDAL's metadata": (42112, ASCII),
    "GDAL's nodata": (42113, ASCII),
    "geokeys": (34735, SHORT),
    "a pixel's size": (33550, 12),
    "LSM": (34412, BYTE),
    "MetaMorph": (33628, LONG),
    "MetaMorph's stack": (33629, LONG),
    "FluoView": (34361, BYTE),
    "FluoView's stamp": (34362, BYTE),
    "Zeiss SEM": (34118, BYTE),
    "ImageJ's counts": (50838, LONG),
    "ImageJ's metadata": (50839, BYTE),
    "Micro-Manager": (51123, ASCII),
    "Olympus": (33560, BYTE),
    "NIH Image": (43314, SHORT),
    "NDPI": (65420, LONG),
    "photoshop": (34377, BYTE),
    "XMP": (700, BYTE),
    "an ICC profile": (34675, 7),
    "EER": (65001, ASCII),
    "software": (305, ASCII),
    "a date": (306, ASCII),
    "GPS": (34853, LONG),
    "copyright": (33432, ASCII),
}
JUNK = (b"\xff" * 64, bytes(64), b"1", b"x" * 3000, b"<a>" * 400, b"9" * 400, b"{[" * 400)


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_tags_that_hold_junk(tmp_path, name):
    tag, kind = FOREIGN[name]
    pixels = np.full((16, 24), 5, "u1")
    size = {SHORT: 2, LONG: 4, 12: 8}.get(kind, 1)
    for raw in JUNK:
        values = raw
        if size > 1:
            whole = raw.ljust(-(-len(raw) // size) * size, b"\1")
            values = tuple(np.frombuffer(whole, {2: "<u2", 4: "<u4", 8: "<f8"}[size]).tolist())
        path = build(tmp_path / "a.tif", 24, 16, [pixels.tobytes()], more=[(tag, kind, values)])
        sound(path, pixels)


@pytest.mark.parametrize(
    "text", ["x", "", "nan", "-1", "256", "1e999", "9" * 400, "5 ", "é", "5\0"]
)
def test_values_of_missing_pixels(tmp_path, text):
    pixels = np.full((16, 24), 5, "u1")
    path = tmp_path / "a.tif"
    build(path, 24, 16, [pixels.tobytes()], more=[("GdalNodata", ASCII, text.encode() + b"\0")])
    assert sound(path, pixels) or text not in ("5 ", "nan", "-1", "256")
