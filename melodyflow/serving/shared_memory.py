"""Whether a result will find room in the shared memory between Triton and the model."""

import os

FOLDER = "/dev/shm"
# Requests that come in meanwhile take room from the same pool.
RESERVE = 64 * 2**20


def is_ample(size: int) -> bool:
    """Whether there is far more room than `size` bytes need.

    Triton's pool grows by what a response needs, unless it has a free piece; it never shrinks. So
    False says only that the pool may be unable to grow. Where the room cannot be told: False.
    """
    try:
        found = os.statvfs(FOLDER)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize >= 2 * size + RESERVE
