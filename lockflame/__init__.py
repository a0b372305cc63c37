"""Lockflame: a sampling profiler for slow multi-threaded servers."""

__version__ = "0.1.0"
