"""Lockflame: a sampling profiler that says which lock path holds a server up."""

__version__ = "0.1.0"
