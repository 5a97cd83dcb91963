"""Functions of one's own against ``scipy.ndimage.generic_filter``; naming and permitting them."""

import pickle
import subprocess
import sys
import textwrap
import threading

import dask.array as da
import numba
import numpy as np
import pytest
import scipy.ndimage as nd
from numpy.testing import assert_array_equal

import chunkfilt as cf
from chunkfilt.errors import ConfigError, InputError, ParameterError
from chunkfilt.filters import generic
from chunkfilt.filters.filter import find_filter
from chunkfilt.filters.generic import allow_code, allow_code_always, describe_function
from chunkfilt.kernels import real_dtype

CROOKED = np.array([[0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1]], bool)
WINDOWS = {
    "default": ({}, {"size": 3}),
    "even": ({"size": 4}, {"size": 4}),
    "uneven": ({"size": (4, 3)}, {"size": (4, 3)}),
    "origin": ({"size": (5, 4), "origin": (2, -2)}, {"size": (5, 4), "origin": (2, -2)}),
    "one": ({"size": 1}, {"size": 1}),
    "crooked": ({"footprint": CROOKED}, {"footprint": CROOKED}),
    "shifted": (
        {"footprint": CROOKED, "origin": (-1, 1)},
        {"footprint": CROOKED, "origin": (-1, 1)},
    ),
    "full": ({"footprint": np.ones((2, 3), bool)}, {"size": (2, 3)}),
}
MODES = ("reflect", "mirror", "nearest", "constant", "wrap")


def order_matters(pixels):
    """Tell apart every two orders of the same pixels."""
    total = 0.0
    for i in range(len(pixels)):
        total += pixels[i] * (i + 1)
    return total


def many_orders(rows):
    total = np.zeros(len(rows))
    for i in range(rows.shape[1]):
        total += rows[:, i] * (i + 1)
    return total


compiled = numba.njit(order_matters)
WAYS = {
    "each": {"function": order_matters},
    "many": {"function": many_orders, "vectorized": True},
    "compiled": {"function": compiled},
    "compiled-many": {"function": numba.njit(many_orders), "vectorized": True},
}


def noise(shape, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    return rng.random(shape) < 0.5 if kind.kind == "b" else (rng.random(shape) * 200).astype(kind)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("window", WINDOWS)
def test_it_is_scipys(way, window):
    image = noise((9, 11))
    own, theirs = WINDOWS[window]
    for mode in MODES:
        result = cf.generic(image, mode=mode, cval=1.5, **own, **WAYS[way])
        expected = nd.generic_filter(image, order_matters, mode=mode, cval=1.5, **theirs)
        assert_array_equal(result, expected)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("shape", "size"), [((17,), 4), ((5, 6, 7), (2, 3, 4)), ((3, 2), 7)])
def test_any_number_of_axes(way, shape, size):
    image = noise(shape)
    expected = nd.generic_filter(image, order_matters, size=size)
    assert_array_equal(cf.generic(image, size=size, **WAYS[way]), expected)


@pytest.mark.parametrize("way", WAYS)
def test_batch_axes(way):
    image = noise((3, 6, 2, 7))
    result = cf.generic(image, axes=(1, 3), size=(3, 4), **WAYS[way])
    for i in range(3):
        for j in range(2):
            expected = nd.generic_filter(image[i, :, j], order_matters, size=(3, 4))
            assert_array_equal(result[i, :, j], expected)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "uint64", "float16", "float32"])
def test_the_function_sees_float64_and_its_result_is_cast(way, dtype):
    image = noise((7, 8), dtype)
    expected = nd.generic_filter(image.astype(np.float64), order_matters, size=3)
    result = cf.generic(image, **WAYS[way])
    assert result.dtype == real_dtype(dtype)
    assert_array_equal(result, expected.astype(real_dtype(dtype)))
    assert_array_equal(cf.generic(image, dtype="float64", **WAYS[way]), expected)
    eight = cf.generic(image, dtype="uint8", **WAYS[way])
    assert_array_equal(eight, np.minimum(np.rint(expected), 255).astype(np.uint8))


def test_what_the_function_is_given():
    seen = []

    def look(pixels):
        seen.append((pixels.dtype, pixels.shape, pixels.flags.c_contiguous, pixels.tolist()))
        pixels[:] = -1  # its own copy: no other pixel's window changes
        return 0

    cf.generic(np.arange(6, dtype=np.uint8).reshape(2, 3), function=look, size=(1, 2))
    pairs = [[0, 0], [0, 1], [1, 2], [3, 3], [3, 4], [4, 5]]
    assert seen == [(np.float64, (2,), True, pair) for pair in pairs]


@pytest.mark.parametrize("name", ["median", "ptp", "std"])
def test_numpys_reductions(name):
    image = noise((40, 37))
    reduce = getattr(np, name)
    expected = nd.generic_filter(image, reduce, size=5)
    assert_array_equal(cf.generic(image, function=reduce, size=5), expected)
    rows = cf.generic(image, function=lambda r: reduce(r, axis=1), size=5, vectorized=True)
    assert_array_equal(rows, expected)


@pytest.mark.parametrize("gathered", [1, 50, 1000])
def test_how_many_windows_come_at_once_does_not_matter(gathered, monkeypatch):
    image = noise((2, 13, 17))
    expected = {way: cf.generic(image, size=3, **params) for way, params in WAYS.items()}
    monkeypatch.setattr(generic, "_GATHERED", gathered)
    for way, params in WAYS.items():
        assert_array_equal(cf.generic(image, size=3, **params), expected[way])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("way", WAYS)
def test_a_nan_reaches_its_windows_only(way, bad):
    image = noise((9, 9))
    clean = cf.generic(image, **WAYS[way])
    image[4, 5] = bad
    result = cf.generic(image, **WAYS[way])
    hit = np.zeros((9, 9), bool)
    hit[3:6, 4:7] = True
    assert_array_equal(~np.isfinite(result), hit)
    assert_array_equal(result[~hit], clean[~hit])


def test_what_a_compiled_function_may_give():
    image = noise((5, 6))
    first = image.copy()
    assert_array_equal(
        cf.generic(image, function=numba.njit(lambda w: w[4] > 100.0)), (first > 100).astype(float)
    )
    assert_array_equal(cf.generic(image, function=numba.njit(lambda w: w.size)), np.full((5, 6), 9))


@pytest.mark.parametrize("chunks", [(4, 5), (9, 2)])
@pytest.mark.parametrize("way", WAYS)
def test_dask_arrays(way, chunks):
    image = noise((9, 11))
    lazy = cf.generic(da.from_array(image, chunks=chunks), size=(3, 4), mode="wrap", **WAYS[way])
    expected = nd.generic_filter(image, order_matters, size=(3, 4), mode="wrap")
    assert_array_equal(lazy.compute(), expected)


@pytest.mark.parametrize("way", WAYS)
def test_stored_images(way, mosaic, tmp_path):
    lazy = cf.generic(cf.open(mosaic), size=5, **WAYS[way])
    expected = nd.generic_filter(cf.open(mosaic)[...].astype(float), order_matters, size=5)
    assert_array_equal(lazy[3:20, 15:40], expected[3:20, 15:40].astype(np.float32))
    lazy.save(tmp_path / "out.zarr", progress=False, workers=2)
    assert_array_equal(cf.open(tmp_path / "out.zarr")[...], expected.astype(np.float32))


def test_nothing_is_called_before_pixels_are_wanted(mosaic):
    def never(pixels):
        raise AssertionError

    lazy = cf.generic(cf.open(mosaic), function=never)
    assert lazy.dtype == np.float32
    assert lazy.plan().blocks >= 1
    cf.generic(da.zeros((9, 9), chunks=3), function=never)
    assert cf.generic(np.zeros((0, 4)), function=never).shape == (0, 4)


def test_the_functions_own_error_comes_through():
    def odd(pixels):
        raise LookupError("not on my watch")

    with pytest.raises(LookupError, match="not on my watch"):
        cf.generic(np.zeros((3, 3)), function=odd)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda pixels: None, "must give a number for each window, got None"),
        (lambda pixels: pixels, r"must give a number for each window, got array\("),
        (lambda pixels: pixels[:1], r"must give a number for each window, got array\("),
        (lambda pixels: 1j, "must give a number for each window, got 1j"),
        (lambda pixels: "x", "must give a number for each window, got 'x'"),
        (numba.njit(lambda pixels: "x"), "cannot be compiled to take a 1-D float64 array"),
        (numba.njit(lambda pixels, other: 1.0), "cannot be compiled to take a 1-D float64 array"),
    ],
)
def test_what_is_no_number_is_refused(function, message):
    with pytest.raises(ParameterError, match=f"generic: function {message}"):
        cf.generic(np.zeros((3, 4)), function=function)


@pytest.mark.parametrize(
    "function", [np.sum, lambda rows: rows, lambda rows: rows[:, :1], lambda rows: rows[:, 0] * 1j]
)
def test_a_vectorized_function_gives_one_number_for_each_row(function):
    with pytest.raises(ParameterError, match="must give 12 numbers for 12 windows, as reductions"):
        cf.generic(np.zeros((3, 4)), function=function, vectorized=True)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "function is required"),
        ({"function": 3}, "function must be a function, or its name .*, got 3"),
        ({"function": np.ptp, "size": 0}, "size must be >= 1"),
        ({"function": np.ptp, "size": 3, "footprint": CROOKED}, "size or footprint, got both"),
        ({"function": np.ptp, "size": 3, "origin": 2}, "origin must be within -1 and 1"),
        ({"function": np.ptp, "vectorized": 1}, "vectorized must be true or false"),
    ],
)
def test_what_is_refused_before_anything_is_computed(params, message):
    with pytest.raises(ParameterError, match=f"generic: .*{message}"):
        cf.generic(np.zeros((5, 5)), **params)


def test_a_name_needs_permission():
    image = noise((4, 5))
    with pytest.raises(
        ParameterError, match=r"'numpy:ptp' names code .* not permitted .*allow-cod"
    ):
        cf.generic(image, function="numpy:ptp")
    expected = cf.generic(image, function=np.ptp)
    with allow_code():
        assert_array_equal(cf.generic(image, function="numpy:ptp"), expected)
        with allow_code():
            pass
        generic.import_function("numpy:ptp")
    with pytest.raises(ParameterError):
        generic.import_function("numpy:ptp")


def test_permission_is_of_a_thread_or_of_the_process():
    failed = []

    def elsewhere():
        try:
            generic.import_function("numpy:ptp")
        except ParameterError as error:
            failed.append(error)

    def run():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    with allow_code():
        run()
    assert len(failed) == 1
    allow_code_always()
    try:
        run()
        assert len(failed) == 1
        with allow_code(False), pytest.raises(ParameterError, match="not permitted"):
            generic.import_function("numpy:ptp")
    finally:
        allow_code_always(False)
    run()
    assert len(failed) == 2


def test_a_permission_is_yes_or_no():
    with (
        pytest.raises(InputError, match="allowed must be True or False, got 'no'"),
        allow_code("no"),
    ):
        pass


def test_nothing_is_imported_without_permission(tmp_path, monkeypatch):
    (tmp_path / "chunkfilt_trap.py").write_text("raise SystemError('imported')\nf = len\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ParameterError, match="not permitted"):
        cf.generic(np.zeros(3), function="chunkfilt_trap:f")
    with (
        allow_code(),
        pytest.raises(ParameterError, match="cannot be imported: SystemError: imported"),
    ):
        cf.generic(np.zeros(3), function="chunkfilt_trap:f")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("numpy:medain", r"numpy has no 'medain' \(did you mean 'median'\?\)"),
        ("nunpy:median", "cannot be imported: ModuleNotFoundError"),
        ("numpy:pi", "'numpy:pi' is no function, but 3.14"),
        ("numpy", "is no name of a function"),
        ("numpy.median", "is no name of a function"),
        (".numpy:median", "is no name of a function"),
        ("numpy:median()", "is no name of a function"),
        ("numpy:", "is no name of a function"),
        ("", "is no name of a function"),
    ],
)
def test_a_name_that_stands_for_nothing(name, message):
    with allow_code(), pytest.raises(ParameterError, match=message):
        cf.generic(np.zeros(3), function=name)


def test_a_function_is_written_as_its_name():
    held = find_filter("generic")
    for function in (np.median, np.linalg.norm, textwrap.dedent, compiled, order_matters):
        written = held.dump(held.validate({"function": function, "size": 5}))
        assert written == {"function": describe_function(function), "size": 5}
        with allow_code():
            assert held.validate(written)["function"] is function
    assert describe_function(np.median) == "numpy:median"
    assert describe_function(np.linalg.norm) == "numpy.linalg:norm"
    assert describe_function(len) == "builtins:len"
    assert describe_function(compiled) == f"{__name__}:compiled"


def test_a_function_of_no_name_cannot_be_written(monkeypatch):
    def inner(pixels):
        return 0.0

    unnamed = [inner, lambda pixels: 0.0, np.add.reduce, "x".join]
    main = eval("lambda pixels: 0.0", {"__name__": "__main__"})
    main.__qualname__ = "main"
    for function in [*unnamed, main]:
        with pytest.raises(InputError, match="no name that another process could import it by"):
            describe_function(function)


def test_a_function_of_no_name_runs_and_is_saved_all_the_same(mosaic, tmp_path):
    lazy = cf.generic(cf.open(mosaic), function=lambda pixels: pixels[4])
    lazy.save(tmp_path / "out.zarr", progress=False)
    assert_array_equal(cf.open(tmp_path / "out.zarr")[...], cf.open(mosaic)[...])
    with pytest.raises(InputError, match=r"generic: the function .* has no name"):
        cf.to_yaml(lazy)


def test_a_job_with_a_function(mosaic, make_job):
    job = make_job(
        """
        version: 1
        input: in.zarr
        steps:
          - generic: {function: "numpy:ptp", size: 5}
        output: {path: out.zarr}
        """
    )
    with pytest.raises(ConfigError, match=r"job\.yaml:4:\d+: generic: function 'numpy:ptp' names"):
        cf.from_yaml(job)
    with allow_code():
        lazy = cf.from_yaml(job)
    # The permission was for reading the job: what it has read may be computed at any time.
    expected = nd.generic_filter(cf.open(mosaic)[...].astype(float), np.ptp, size=5)
    assert_array_equal(lazy[...], expected.astype(np.float32))
    assert 'function: "numpy:ptp"' in cf.to_yaml(lazy)


def test_functions_travel_to_other_processes(mosaic, tmp_path):
    (tmp_path / "chunkfilt_own.py").write_text(
        textwrap.dedent(
            """
            import numba


            def spread(pixels):
                return pixels.max() - pixels.min()


            fast = numba.njit(spread)
            """
        )
    )
    program = textwrap.dedent(
        """
        import chunkfilt as cf
        import chunkfilt_own

        if __name__ == "__main__":
            image = cf.open("in.zarr")
            results = {
                "named": cf.generic(image, function=chunkfilt_own.spread),
                "compiled": cf.generic(image, function=chunkfilt_own.fast),
                "unnamed": cf.generic(image, function=lambda pixels: chunkfilt_own.fast(pixels)),
            }
            cf.save(results, "out.zarr", scheduler="distributed", workers=1, progress=False)
        """
    )
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = nd.generic_filter(cf.open(mosaic)[...].astype(float), np.ptp, size=3)
    for name in ("named", "compiled", "unnamed"):
        assert_array_equal(cf.open(tmp_path / "out.zarr", name)[...], expected)


def test_a_bound_filter_is_pickled_by_the_functions_name(mosaic):
    node = cf.generic(cf.open(mosaic), function=np.median).node
    copy = pickle.loads(pickle.dumps(node))
    assert copy.params["function"] is np.median


def test_a_compiled_loop_is_made_once_for_a_function():
    own = numba.njit(lambda pixels: pixels[0])
    cf.generic(np.zeros((3, 3)), function=own)
    before = generic._loop.cache_info()
    cf.generic(np.zeros((5, 9, 4)), function=own, size=2)
    after = generic._loop.cache_info()
    assert after.misses == before.misses
    assert after.hits == before.hits + 1
    assert len(generic._loop(own).signatures) == 1
