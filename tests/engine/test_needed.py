"""What all blocks need together equals what each of them needs, added up."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkfilt.engine.bind import bind
from chunkfilt.engine.evaluate import demand, wanted_runs
from chunkfilt.engine.graph import Source
from chunkfilt.engine.needed import Needed, chunks
from chunkfilt.filters.filter import find_filter
from chunkfilt.grid import Blocks, ImageSpec, run_length


class Chunked:
    chunks = (4, 5)

    def read(self, region):
        raise AssertionError


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(6, 12), st.integers(6, 12)),
    st.sampled_from(["reflect", "nearest", "constant"]),
    st.integers(1, 5),
)
def test_three_blocks_tell_of_all(counts, block, mode, size):
    # Blocks larger than the halo, the last one whole: all but the first and the last need the same.
    shape = tuple(n * side for n, side in zip(counts, block, strict=True))
    image = Source(ImageSpec(shape, np.dtype("uint16"), ("y", "x"), (0, 1)), Chunked())
    smooth = bind(find_filter("mean"), [image], {"size": size, "mode": mode})
    node = bind(find_filter("variance"), [smooth], {"size": 3, "mode": mode})
    needed = Needed([node], [], shape, ("y", "x"))
    expected = dict.fromkeys((image, smooth, node), 0)
    touched = 0
    for region in Blocks(shape, block):
        runs = demand(wanted_runs([node], region))[1]
        for one in expected:
            expected[one] += np.prod([run_length(along) for along in runs[id(one)]])
        touched += np.prod(
            [
                sum(-(-b // side) - a // side for a, b in along)
                for along, side in zip(runs[id(image)], Chunked.chunks, strict=True)
            ]
        )
    assert {one: needed.total(one, block) for one in expected} == expected
    if all(side % c == 0 for side, c in zip(block, Chunked.chunks, strict=True)):
        assert needed.total(image, block, chunks) == touched
