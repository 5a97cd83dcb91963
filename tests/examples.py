"""Parameters that the tests try filters with: this is the only list of them.

A filter that works with its defaults needs nothing here.  One with a required parameter, or with
defaults too large for images of a few pixels, needs an entry.
"""

import numpy as np

__all__ = ["EXAMPLES", "along", "example_of"]

SMALL_GABOR = {"sigma_x": 1.0, "sigma_y": 1.5, "n_stds": 2.0}
# Costs more than tiles of 32 x 32 do, see `small_tiles`.
TILED_GABOR = {"sigma_x": 1.5, "sigma_y": 3.0}
TILED_WEIGHTS = {"weights": np.random.default_rng(0).integers(-9, 9, (11, 12)).tolist()}
EXAMPLES = {
    "binary_closing": [{}, {"iterations": 2, "border_value": 1}],
    "binary_dilation": [{}, {"iterations": 2, "structure": "crooked", "border_value": 1}],
    "binary_erosion": [{}, {"iterations": 2, "structure": "crooked"}],
    "binary_hit_or_miss": [{"structure1": [[1, 0], [0, 0]], "structure2": [[1]]}],
    "dilation": [{}, {"structure": "heights"}],
    "erosion": [{}, {"structure": "heights", "footprint": "crooked"}],
    "morphological_gradient": [{}, {"structure": "heights", "origin": -1}],
    "convolve": [{"weights": "crooked weights"}, {"weights": {"gaussian": 0.5}}, TILED_WEIGHTS],
    "correlate": [{"weights": "crooked weights"}, {"weights": {"box": 3}}, TILED_WEIGHTS],
    "cast": [{"dtype": "int16"}, {"dtype": "uint8"}],
    "clip": [{"min": 3.5, "max": 100.0}, {"max": 50.0}],
    "equalize_hist": [{}, {"nbins": 7}, {"scope": "all"}],
    "gabor": [
        {"frequency": 0.3, **SMALL_GABOR},
        {"frequency": 0.2, "theta": 0.7, "part": "magnitude", **SMALL_GABOR},
        {"frequency": 0.2, "theta": 0.5, **TILED_GABOR},
    ],
    "gabor_bank": [
        {"frequencies": [0.3], "thetas": [0.0, 0.7], **SMALL_GABOR},
        {"frequencies": [0.2], "thetas": [0.5, 1.07], **TILED_GABOR},
    ],
    "fill_gaps": [
        {"max_distance": 2.3},
        {"max_distance": 2, "method": "mean"},
        {"max_distance": 3, "method": "idw", "power": 1.5},
    ],
    "generic": [{"function": np.ptp}],
    "gaussian": [{}, {"sigma": 0.7, "order": 1}, {"sigma": 2.0, "radius": 3}],
    "histogram": [{}, {"nbins": 5, "range": (10.0, 90.0)}, {"scope": "all"}],
    "mix_channels": [{"weights": "mean", "axis": 0}],
    "percentile": [{"percentile": 30}, {"percentile": -20}],
    "rank": [{"rank": 1}, {"rank": -2}],
    "threshold_local": [
        {},
        {"block_size": 5, "method": "mean", "offset": 2.5},
        {"block_size": 5, "method": "median"},
        {"block_size": 3, "method": "median", "nan_policy": "omit"},
    ],
    "threshold_niblack": [{"window_size": 5}],
    "threshold_sauvola": [{"window_size": 3}, {"window_size": 5, "k": -0.3, "r": 60.0}],
    "statistics": [{}, {"percentiles": [2.0, 50.0, 99.0]}, {"scope": "all"}],
    "variance": [{}, {"ddof": 1}],
}
CROOKED = {
    1: [1, 0, 1, 1],
    2: [[0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1]],
    3: [[[0, 1], [1, 0], [1, 1]], [[1, 0], [0, 0], [0, 1]]],
}


def along(params, ndim):
    """Return parameters for so many spatial axes: windows and weights have a word in the list."""
    chosen = dict(params)
    for name in ("footprint", "structure"):
        if isinstance(chosen.get(name), str) and chosen[name] == "crooked":
            chosen[name] = CROOKED[ndim]
    if isinstance(chosen.get("structure"), str) and chosen["structure"] == "heights":
        chosen["structure"] = (5 * np.array(CROOKED[ndim]) - 2).tolist()
    if isinstance(chosen.get("weights"), str) and chosen["weights"] == "crooked weights":
        chosen["weights"] = (np.array(CROOKED[ndim]) * 0.75 - 0.25).tolist()
    return chosen


def example_of(name, ndim=2):
    """Return the first parameters that a filter is tried with."""
    return along(EXAMPLES.get(name, [{}])[0], ndim)
