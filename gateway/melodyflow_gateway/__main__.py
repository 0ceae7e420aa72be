"""`python -m melodyflow_gateway` is `melodyflow gateway`, also where nothing is installed."""

import sys

from melodyflow_client.cli import main

from .cli import add

sys.exit(main(["gateway", *sys.argv[1:]], {"gateway": add}))
