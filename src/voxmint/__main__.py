"""`python -m voxmint`."""

import sys

from voxmint.cli import main

sys.exit(main())
