"""What all kernels share."""

import subprocess
import sys


def test_compiled_code_is_loaded_without_the_compilers_library():
    code = (
        "import sys, numpy as np\n"
        "from chunkfilt.kernels.box import box_mean\n"
        "box_mean(np.ones((1, 8, 8), np.float32), (3, 3))\n"
        "print('numba.np.arraymath' in sys.modules)"
    )
    told = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert told[1].stdout.strip() == "False"
