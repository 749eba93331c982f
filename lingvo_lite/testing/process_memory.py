"""Memory of a process that runs many tests: what it holds, and how it is given back."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys

from lingvo_lite.training import registered_gradients


def Held() -> int:
    """Bytes in memory; where the system does not say, the most that there ever were."""
    return _Resident() or _Highest()


def Peak() -> int:
    """The most bytes that were in memory at one time."""
    # Linux brings its own record up to date only now and then.
    return max(_Highest(), _Resident())


def _Resident() -> int:
    """0 where the system does not say."""
    try:
        with open('/proc/self/statm') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except OSError:
        return 0


def _Highest() -> int:
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def Freeze() -> None:
    """What lives here lives on: collections no longer look at it, so they are short."""
    gc.collect()
    gc.freeze()


def Collect() -> None:
    """Circles of objects are freed, and what is free goes back to the system."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:  # not the GNU library
        pass


def CollectGraphs() -> None:
    """As `Collect`, graphs with custom gradients included; none is differentiated afterwards."""
    registered_gradients.Forget(registered_gradients.Names())
    Collect()
