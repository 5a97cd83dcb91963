"""Local equalisation against scikit-image on the whole image."""

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from skimage.filters import rank

import chunkfilt as cf
from chunkfilt.engine.bind import bind
from chunkfilt.engine.evaluate import evaluate_region
from chunkfilt.engine.graph import Source, plain_axes
from chunkfilt.errors import InputError, ParameterError
from chunkfilt.grid import ImageSpec, Region

pytestmark = pytest.mark.filterwarnings("ignore:Bad rank filter performance:UserWarning")


def noise(dtype, shape=(40, 45), seed=0, most=250):
    return (np.random.default_rng(seed).random(shape) * most).astype(dtype)


def disk(radius):
    return cf.disk(radius)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("radius", [1, 5, 30])
def test_disks_are_scikit_images(dtype, radius):
    image = noise(dtype)
    found = cf.equalize_local(image, footprint={"disk": radius})
    assert found.dtype == image.dtype
    assert_array_equal(found, rank.equalize(image, disk(radius)))


@pytest.mark.parametrize("most", [1, 2, 900, 65536])
def test_sixteen_bits_have_the_levels_of_the_whole_image(most):
    image = noise("uint16", most=most)
    image[0, 0] = most - 1
    expected = rank.equalize(image, np.ones((4, 7)))
    assert_array_equal(cf.equalize_local(image, size=(4, 7)), expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_volumes_are_scikit_images(dtype):
    image = noise(dtype, (6, 9, 11))
    footprint = np.random.default_rng(1).random((3, 2, 5)) < 0.6
    expected = rank.equalize(image, footprint)
    assert_array_equal(cf.equalize_local(image, footprint=footprint), expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("chunks", [(7, 45), (40, 9), (13, 17)])
def test_chunks_do_not_show(dtype, chunks):
    image = noise(dtype, most=250 if dtype == "uint8" else 60_000)
    lazy = cf.equalize_local(da.from_array(image, chunks=chunks), footprint=disk(4))
    assert_array_equal(lazy.compute(), rank.equalize(image, disk(4)))


@pytest.mark.parametrize("level", [0, 100])
def test_pixels_beyond_the_edge_do_not_count(level):
    """Zeros beyond the edge would be darker than, or as dark as, every pixel."""
    image = np.full((9, 9), level, np.uint8)
    assert (cf.equalize_local(image, size=5) == 255).all()


def test_each_image_of_a_stack_has_its_own_levels():
    stack = noise("uint16", (3, 20, 21), most=1) + np.array([5, 80, 3000])[:, None, None]
    stack = (stack + noise("uint16", (3, 20, 21), seed=3, most=900)).astype(np.uint16)
    found = cf.equalize_local(stack, size=5, axes=(1, 2))
    for one, image in zip(found, stack, strict=True):
        assert_array_equal(one, rank.equalize(image, np.ones((5, 5))))
    together = cf.equalize_local(stack, size=5, axes=(1, 2), scope="all")
    assert together.max() == stack.max()


def test_a_mask_leaves_pixels_out_as_scikit_image_does():
    image, mask = noise("uint8"), np.random.default_rng(2).random((40, 45)) < 0.3
    expected = rank.equalize(image, np.ones((3, 3)), mask=mask)
    assert_array_equal(cf.equalize_local(image, mask, size=3), expected)


class Memory:
    """Pixels that may only be read."""

    def __init__(self, array):
        self.array = array

    def read(self, region):
        """Return the pixels of a region inside the image."""
        return self.array[region.slices]


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 255), ("uint8", 0), ("uint16", 65535)])
def test_nodata_pixels_do_not_count_and_stay(dtype, nodata):
    image, mask = noise(dtype, most=90) + np.array(1, dtype), noise("float64", seed=3) > 60
    image[~mask] = nodata
    spec = ImageSpec(image.shape, image.dtype, plain_axes(2), (0, 1), nodata=nodata)
    source = Source(spec, Memory(image))
    node = bind(cf.equalize_local.filter, [source], {"size": 3})
    found = evaluate_region(node, Region.whole(image.shape))
    # Nor do they count towards the largest pixel.
    alone = np.where(mask, image, 0).astype(dtype)
    expected = rank.equalize(alone, np.ones((3, 3)), mask=mask)
    assert_array_equal(found, np.where(mask, expected, nodata))


@pytest.mark.parametrize("dtype", ["int16", "uint32", "float32", "bool"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ParameterError, match=f"uint8 and uint16 images, got dtype {dtype}"):
        cf.equalize_local(noise(dtype))


def test_mistakes():
    image = noise("uint8")
    with pytest.raises(InputError, match="size or footprint, got both"):
        cf.equalize_local(image, size=3, footprint=disk(2))
    with pytest.raises(InputError, match="footprint must have 2 axes"):
        cf.equalize_local(image, footprint=np.ones(3, bool))
    with pytest.raises(InputError, match="has no parameter 'mode'"):
        cf.equalize_local(image, mode="reflect")
