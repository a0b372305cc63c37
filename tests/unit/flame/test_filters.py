from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flame.filters import focused, only_threads
from lockflame.errors import LockflameError
from lockflame.profile import SAMPLES, TRUNCATED_STACK, Thread


@pytest.fixture
def profile(profile_of):
    base = profile_of([(["main", "a"], 6), (["main", "b"], 3), ([f"{TRUNCATED_STACK}[m]", "b", "c"], 1), ([], 2)])
    threads = (Thread(7, 7, "main"), Thread(7, 8, "worker"), Thread(7, 9, "worker"))
    samples = replace(base.samples, thread=np.array([0, 1, 2, 0], np.int32))
    return replace(base, threads=threads, samples=samples)


@pytest.mark.parametrize(("wanted", "samples"), [(["main"], 8), (["worker"], 4), (["8"], 3), (["main", "9"], 9)])
def test_threads(profile, wanted, samples):
    part = only_threads(profile, wanted)
    assert part.total(SAMPLES) == part.recording.samples == samples
    assert part.recording.notes[0].startswith(f"Only threads {', '.join(wanted)}: ")


def test_an_unknown_thread_names_those_there_are(profile):
    with pytest.raises(LockflameError, match=r"no thread .* nobody\. Its threads are main, worker"):
        only_threads(profile, ["nobody"])


@pytest.mark.parametrize(("expression", "samples", "truncated"), [("^b$", 4, 1), ("a", 10, 1), ("^a", 6, 0)])
def test_focus(profile, expression, samples, truncated):
    part = focused(profile, expression)
    assert (part.recording.samples, part.recording.truncated) == (samples, truncated)


@pytest.mark.parametrize("expression", ["(", "nothing has this name"])
def test_focus_on_nothing(profile, expression):
    with pytest.raises(LockflameError, match="cannot focus on"):
        focused(profile, expression)
