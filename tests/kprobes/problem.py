"""The one exception of this package."""

from __future__ import annotations


class BootProblem(Exception):
    """The guest couldn't be made, started or brought to an end. The message is one line and says what to do."""
