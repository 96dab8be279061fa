"""The command line: one file a command, and no logic that a library user could not call."""

from tessella.cli.app import app, main

__all__ = ["app", "main"]
