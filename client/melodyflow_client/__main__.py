"""`python -m melodyflow_client` is the command `melodyflow`."""

import sys

from .cli import main

sys.exit(main())
