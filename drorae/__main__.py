"""``python -m drorae``, see :mod:`drorae.cli`."""

import sys

from drorae.cli import main

if __name__ == "__main__":
    sys.exit(main())
