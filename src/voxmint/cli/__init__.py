"""The command line: flags to recipe to call."""

from voxmint.cli.app import main

__all__ = ["main"]
