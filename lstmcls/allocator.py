"""What a process that trains keeps of its memory.

What tensors free is kept for the next ones. glibc gives large blocks back to the system when they
are freed and asks for them again at the next step, which then pays a page fault for every 4 KiB.

What oneDNN prepares for a batch's shape is not kept: there is one for almost every length of a
text, so all of them take memory in every worker, and each is soon made again.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Options of glibc's mallopt (malloc.h): no block is mapped by itself, the heap never shrinks.
_SETTINGS = {-4: 0, -1: 2**31 - 1}  # M_MMAP_MAX (blocks), M_TRIM_THRESHOLD (bytes)


def keep_freed_memory() -> bool:
    """Have this process keep what it frees, from now on; False where the C library is another."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    return all(mallopt(option, value) for option, value in _SETTINGS.items())


def forget_shapes() -> None:
    """Have oneDNN keep the code of the last few shapes only; before its first LSTM, or in vain."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8")
