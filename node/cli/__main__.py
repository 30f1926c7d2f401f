"""Lets `python -m node.cli` be the command `mathesis`."""

import sys

from node.cli.main import main

sys.exit(main())
