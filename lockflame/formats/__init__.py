"""Files of other tools: readers that find out by content what a file is, and writers beside our own profile file."""

from lockflame.formats.reading import read_noted, read_profile, read_tables

__all__ = ["read_noted", "read_profile", "read_tables"]
