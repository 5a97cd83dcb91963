"""Ways in which a process ends of a sudden."""

import ctypes
import os
import signal

__all__ = ["crashed", "exited", "killed"]


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def crashed():
    ctypes.string_at(0)


def exited():
    os._exit(3)
