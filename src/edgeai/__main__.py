"""`python -m edgeai`, the same as the console script."""

import sys

from edgeai.cli import main

sys.exit(main())
