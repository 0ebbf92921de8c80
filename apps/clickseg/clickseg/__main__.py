"""`python -m clickseg` is `clickseg`."""

import sys

from .cli import main

sys.exit(main())
