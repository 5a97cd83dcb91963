"""Import what is installed only with one of chunkfilt's extras."""

from __future__ import annotations

import importlib
from typing import Any

from chunkfilt.errors import MissingDependency

__all__ = ["require"]

_PACKAGES = {"PIL": "pillow", "skimage": "scikit-image"}


def require(module: str, extra: str) -> Any:
    """Import an optional module, or say how to install it.

    Parameters
    ----------
    module : str
        The module's full name, for instance ``"matplotlib.cbook"``.
    extra : str
        The extra of chunkfilt that brings the module's package.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    MissingDependency
        If the module's package is not installed.
    """
    top = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != top:
            raise  # the package is there; something that it needs itself is not
        package = _PACKAGES.get(top, top)
        message = f'this needs {package}: pip install "chunkfilt[{extra}]"'
        raise MissingDependency(message) from error
