"""Units of other tools made ours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lockflame.errors import LockflameError
from lockflame.profile import CPU, SAMPLES, Profile, SampleType

NANOSECONDS = "nanoseconds"
# Go's pprof knows these (internal/measurement).
_NANOSECONDS_OF = {
    name: factor
    for factor, names in (
        (1, "ns nanosecond nanoseconds nanos"),
        (10**3, "us µs μs microsecond microseconds micros"),
        (10**6, "ms millisecond milliseconds millis"),
        (10**9, "s sec second seconds"),
        (60 * 10**9, "min minute minutes"),
        (3600 * 10**9, "h hr hour hours"),
    )
    for name in names.split()
}
_VALUE_MOST = 2**63 - 1
_NAMES = {("sample", "count"): SAMPLES}


def in_our_units(profile: Profile, path: str) -> Profile:
    """The profile with times in nanoseconds; other units are kept as they are.

    Raises `LockflameError` when a value doesn't fit then.
    """
    types: list[SampleType] = []
    values = profile.samples.values
    for column, kind in enumerate(profile.sample_types):
        factor = _NANOSECONDS_OF.get(kind.unit.lower(), 0)
        new = SampleType(kind.name, NANOSECONDS) if factor else _NAMES.get((kind.name, kind.unit), kind)
        types.append(kind if new in profile.sample_types or new in types else new)
        if factor > 1 and types[-1] == new:
            if float(np.abs(values[:, column].astype(np.float64)).sum()) * factor > _VALUE_MOST:
                raise LockflameError(f"cannot read {path}", f"its {kind.name} is beyond 2^63 ns", "check the file")
            values = values.copy()
            values[:, column] *= factor
    samples = replace(profile.samples, values=values)
    return replace(profile, sample_types=tuple(types), samples=samples)


def with_cpu_time(profile: Profile, frequency_hz: int) -> Profile:
    """The profile with CPU time by the rate of its samples, where it has none itself."""
    if CPU in profile.sample_types or SAMPLES not in profile.sample_types:
        return profile
    counts = profile.samples.values[:, profile.sample_types.index(SAMPLES)]
    values = np.column_stack((profile.samples.values, counts * (10**9 // frequency_hz)))
    samples = replace(profile.samples, values=values)
    return replace(profile, sample_types=(*profile.sample_types, CPU), samples=samples)
