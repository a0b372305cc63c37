"""The kernel's settings that bound what the sampler may do."""

from __future__ import annotations


def max_sample_rate_hz() -> int | None:
    """kernel.perf_event_max_sample_rate; None where it can't be read."""
    return _setting("/proc/sys/kernel/perf_event_max_sample_rate")


def paranoid_level() -> int | None:
    """kernel.perf_event_paranoid; None where it can't be read."""
    return _setting("/proc/sys/kernel/perf_event_paranoid")


def _setting(path: str) -> int | None:
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
