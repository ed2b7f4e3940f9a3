"""Open the explorer: ``python app.py``, also what a Space runs. See :mod:`drorae.ui.app`."""

import sys

from drorae.ui.app import main

if __name__ == "__main__":
    sys.exit(main())
