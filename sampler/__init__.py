"""Collects: perf_event samples as raw bytes first, decoded into columns after the recording."""
