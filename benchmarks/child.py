"""Call one function in a process of its own: ``python -m benchmarks.child MODULE.FUNCTION JSON``.

What the function returns is the last line printed, as JSON.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module

if __name__ == "__main__":
    module, function = sys.argv[1].split(".")
    called = getattr(import_module(f"benchmarks.{module}"), function)
    print(json.dumps(called(**json.loads(sys.argv[2]))))
