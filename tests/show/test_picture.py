"""Pictures say what they show."""

import base64
import io
import sys

import numpy as np
import pytest
import zarr

import chunkfilt as cf
from chunkfilt.arrays.job import picture_of
from chunkfilt.errors import InputError, MissingDependency, StorageError
from chunkfilt.show.picture import Picture, plane_index, stretch, table_html

Image = pytest.importorskip("PIL.Image")


def decode(png):
    with Image.open(io.BytesIO(png)) as picture:
        picture.verify()
        assert picture.format == "PNG"
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))


def test_the_png_holds_the_pixels():
    array = np.linspace(0, 1, 300 * 400).reshape(300, 400)
    page = decode(Picture(array, "a ramp").png())
    assert page.shape[0] > 300
    shown = page[:300, :400]
    assert (shown[..., 0] == shown[..., 1]).all()
    expected = np.clip((array - 0.01) / 0.98, 0, 1) * 255
    assert np.abs(shown[..., 0] - expected).max() <= 2
    assert (page[300:] != 255).any()  # the caption


def test_a_small_window_is_enlarged_by_whole_pixels():
    array = np.array([[0, 10], [20, 30]], dtype="uint8")
    page = decode(Picture(array, "four").png())[:256, :256, 0]
    assert len(np.unique(page)) == 4
    assert (page[:128, :128] == page[0, 0]).all()
    assert (page[128:, 128:] == page[-1, -1]).all()
    assert page[0, 0] < page[0, -1] < page[-1, 0] < page[-1, -1]


def test_nan_and_infinities_have_a_colour_of_their_own():
    array = np.arange(300.0 * 300).reshape(300, 300)
    array[10, 20], array[30, 40], array[50, 60] = np.nan, np.inf, -np.inf
    page = decode(Picture(array, "holes").png())
    coloured = page[:300, :300]
    odd = (coloured[..., 0] != coloured[..., 1]) | (coloured[..., 1] != coloured[..., 2])
    assert sorted(zip(*np.nonzero(odd), strict=True)) == [(10, 20), (30, 40), (50, 60)]


@pytest.mark.parametrize("array", [
    np.full((5, 5), np.nan), np.zeros((5, 5)), np.full((5, 5), 7, "int16"), np.ones((1, 1), bool),
    np.array([[True, False]]), np.array([[0, 2**64 - 1]], "uint64"), np.array([[-1e300, 1e300]]),
    np.ones((3, 4), ">u2"), np.ones((2, 2), "float16"),
], ids=lambda a: f"{a.dtype}-{a.shape}")  # fmt: skip
def test_any_pixels_make_a_picture(array):
    decode(Picture(array, "odd").png())


def test_the_caption_names_black_and_white():
    picture = Picture(np.arange(101.0).reshape(1, 101), "numbers")
    assert picture.caption == "numbers; black 1, white 99"
    assert "numbers" in repr(picture)
    assert "1 x 101" in repr(picture)


def test_one_axis_is_a_strip():
    assert Picture(np.arange(50), "line").array.shape == (32, 50)


def test_ways_to_have_it(tmp_path):
    picture = Picture(np.eye(4), "eye")
    png = picture.png()
    assert picture._repr_png_() == png
    kind, _, data = picture.data_uri().partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == png
    assert picture.save(tmp_path / "p.png").read_bytes() == png


def test_stretch():
    np.testing.assert_array_equal(stretch(np.array([0, 5, 10, 99]), 0, 10), [0, 127, 255, 255])
    np.testing.assert_array_equal(stretch(np.array([3.0, np.nan]), 3, 3), [0, 0])


def test_the_plane_that_is_shown():
    assert plane_index((3, 9, 40, 50), (1, 2, 3)) == {0: 0, 1: 4}
    assert plane_index((40, 50), (0, 1)) == {}
    assert plane_index((7,), (0,)) == {}
    assert plane_index((5, 6, 7), (0,)) == {1: 0, 2: 0}


@pytest.fixture
def large(tmp_path, make_store):
    """600 x 800 pixels whose value is their column."""
    data = np.broadcast_to(np.arange(800, dtype="uint16"), (600, 800)).copy()
    return make_store(tmp_path / "in.zarr", data, chunks=(64, 64), dims="yx"), data


def test_a_window_at_full_resolution(large):
    picture = cf.maximum(cf.open(large[0]), size=1).preview(size=100)
    assert picture.caption.startswith("maximum of in.zarr: y 250:350, x 350:450, full resolution")
    np.testing.assert_array_equal(picture.array, large[1][250:350, 350:450])
    chosen = cf.preview(cf.open(large[0]), y=(5, 9), x=(1, 4))
    assert "y 5:9, x 1:4, full resolution" in chosen.caption
    np.testing.assert_array_equal(chosen.array, large[1][5:9, 1:4])


def test_the_whole_from_a_coarse_level(large):
    picture = cf.preview(cf.open(large[0]), size=200)
    assert "in.zarr: the whole, from the input at 1/4 of its resolution;" in picture.caption
    assert "filters run" not in picture.caption
    expected = large[1].reshape(150, 4, 200, 4).mean(axis=(1, 3))
    assert np.abs(picture.array - expected).max() <= 1
    filtered = cf.maximum(cf.open(large[0]), size=3).preview(size=200, whole=True)
    assert "1/4 of its resolution, filters run on that level" in filtered.caption


def test_the_whole_where_it_fits(large):
    small = cf.open(large[0]).crop(y=(0, 30), x=(0, 40))
    picture = small.preview(whole=True)
    assert "the whole image" in picture.caption
    np.testing.assert_array_equal(picture.array, large[1][:30, :40])


def test_coarse_levels_of_odd_sizes(tmp_path, make_store):
    data = np.arange(7 * 11, dtype="float64").reshape(7, 11)
    picture = cf.preview(cf.open(make_store(tmp_path / "o", data)), size=4)
    assert picture.array.shape == (3, 4)
    expected = [
        [data[y : y + 3, x : x + 3].mean() for x in range(0, 11, 3)] for y in range(0, 7, 3)
    ]
    np.testing.assert_allclose(picture.array, expected, rtol=1e-6)


def test_n_axes_show_one_plane(tmp_path, make_store, make_pixels):
    data = make_pixels((3, 9, 20, 30))
    image = cf.open(make_store(tmp_path / "s", data, dims="czyx"))
    for picture in (cf.preview(image), cf.preview(cf.abs(image)), image.preview(size=30)):
        np.testing.assert_array_equal(picture.array, data[0, 4])
    chosen = cf.abs(image).preview(c=2, z=(7, 8))
    assert "c 2, z 7" in chosen.caption
    np.testing.assert_array_equal(chosen.array, data[2, 7])


def test_one_axis(tmp_path, make_store):
    image = cf.open(make_store(tmp_path / "l", np.arange(100.0)))
    for picture in (image.preview(), cf.abs(image).preview(size=10), image.preview(size=10)):
        decode(picture.png())


def test_behind_a_value(large):
    picture = cf.equalize_hist(cf.open(large[0])).preview(size=64)
    assert "full resolution" in picture.caption
    assert 0 < picture.array.mean() <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [({"w": (0, 3)}, "no axis 'w'"), ({"y": (0, 601)}, "y must lie within 0 and 600"),
     ({"y": (5, 5)}, "y must lie"), ({"y": -1}, "y must lie"), ({"y": "a"}, "y"),
     ({"whole": True, "y": (0, 5)}, "without ranges"), ({"y": (0.5, 3)}, "y"),
     ({"size": 0}, "size"), ({"size": -5}, "size"), ({"y": (1, 2, 3)}, "y must be"),
     ({"y": True}, "y must be"), ({"y": ()}, "y must be"), ({"y": (None, 3)}, "y must be"),
     ({"size": 2.5}, "size"), ({"size": "big"}, "size")],
    ids=str,
)  # fmt: skip
def test_ranges_that_are_refused(large, options, words):
    with pytest.raises(InputError, match=words):
        cf.preview(cf.abs(cf.open(large[0])), **options)


def test_an_image_without_pixels(tmp_path):
    zarr.create_array(str(tmp_path / "e"), shape=(0, 5), dtype="u1")
    with pytest.raises(InputError, match="no pixels"):
        cf.open(tmp_path / "e").preview()


def test_a_value_is_no_picture(large):
    with pytest.raises(InputError, match="image"):
        cf.preview(cf.statistics(cf.open(large[0])))


def test_long_graphs_are_described_briefly(large):
    image = cf.open(large[0])
    assert "subtract of in.zarr and mean of in.zarr:" in (image - cf.mean(image)).preview().caption
    for _ in range(60):
        image = image - cf.maximum(image + image, size=3)
    assert image.preview(size=8).caption.startswith("subtract of ... of in.zarr: y 296:304")
    assert len(image.preview(size=8).caption) < 120
    assert "subtract of ... of in.zarr" in repr(image)


def test_an_axis_may_have_the_name_of_a_parameter(tmp_path, make_store, make_pixels):
    data = make_pixels((20, 30))
    node = cf.open(make_store(tmp_path / "s", data, dims=["size", "whole"])).node
    picture = picture_of(node, {"size": (2, 5), "whole": (np.int64(1), 4)})
    np.testing.assert_array_equal(picture.array, data[2:5, 1:4])


def test_tables_hold_text_not_html():
    assert table_html([("<b>", "a & 'b'"), ("n", 3)]).count("<") == 2 * 6 + 2
    assert "<td style='text-align:left'>a &amp;" in table_html([("<b>", "a & 'b'")])


def test_a_picture_that_cannot_be_written(tmp_path):
    for path in (tmp_path, tmp_path / "no" / "p.png", tmp_path / ("a" * 300)):
        with pytest.raises(StorageError, match="cannot write"):
            Picture(np.eye(3), "eye").save(path)


def test_without_pillow(monkeypatch):
    for name in [n for n in sys.modules if n.partition(".")[0] == "PIL"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingDependency, match=r'pillow.*pip install "chunkfilt\[show\]"'):
        Picture(np.eye(3), "eye").png()


def test_html_without_pillow_still_says_what_is_known(monkeypatch, mosaic):
    for name in {n for n in sys.modules if n.partition(".")[0] == "PIL"} | {"PIL", "PIL.Image"}:
        monkeypatch.setitem(sys.modules, name, None)
    html = cf.mean(cf.open(mosaic))._repr_html_()
    assert "mean of in.zarr" in html
    assert "<img" not in html
