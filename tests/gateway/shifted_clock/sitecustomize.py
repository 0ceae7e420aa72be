"""A process whose clock is off by $SHIFTED_CLOCK seconds: its folder stands on PYTHONPATH."""

import os
import time

_right = time.time
time.time = lambda: _right() + float(os.environ["SHIFTED_CLOCK"])
