"""`python -m rsir` is `rsir`."""

import sys

from rsir.cli import main

if __name__ == "__main__":
    sys.exit(main())
