"""Whether a result will fit into the shared memory between Triton and the model."""

import os

FOLDER = "/dev/shm"
# Other requests take room from the same pool in the meantime.
RESERVE = 64 * 2**20


def is_ample(size: int) -> bool:
    """Whether there is far more room than `size` bytes need; False if unknown.

    Triton's pool grows by what a response needs, unless it has a free block; it never shrinks. So
    False only means that the pool may be unable to grow.
    """
    try:
        found = os.statvfs(FOLDER)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize >= 2 * size + RESERVE
