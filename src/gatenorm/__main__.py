"""``python -m gatenorm``: the command line."""

import sys

from gatenorm.cli import main

sys.exit(main())
