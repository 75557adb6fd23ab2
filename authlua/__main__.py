"""``python -m authlua`` is ``authlua``."""

import sys

from authlua.cli import main

if __name__ == "__main__":
    sys.exit(main())
