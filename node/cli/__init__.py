"""The command line `mathesis`. Importing it is cheap; each command loads what it needs when it runs."""

from node.cli.main import main

__all__ = ["main"]
