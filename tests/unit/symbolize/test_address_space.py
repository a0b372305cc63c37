from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockflame.events import CommEvent, Event, ExitEvent, FileMapping, ForkEvent, MapEvent, ProcessSnapshot
from symbolize.address_space import AddressSpace, CommTimeline, SampledSpaces, replay

PAGE = 0x1000


def mapping(start_page: int, pages: int, path: str = "/a", offset_page: int = 0) -> FileMapping:
    start = start_page * PAGE
    return FileMapping(start, start + pages * PAGE, offset_page * PAGE, path, (8, 1), 7, "ab", 3)


def space_of(*mappings: FileMapping) -> AddressSpace:
    space = AddressSpace(1)
    for each in mappings:
        space = space.with_mapping(each)
    return space


def replayed(
    samples: list[tuple[int, int]], events: list[Event], snapshots: tuple[ProcessSnapshot, ...] = ()
) -> list[list[str]]:
    """The paths that each sample, a (pid, time), finds mapped."""
    return [[each.path for each in space.mappings] for space in spaces_seen(samples, events, snapshots)]


def sampled(
    samples: list[tuple[int, int]], events: list[Event], snapshots: tuple[ProcessSnapshot, ...] = ()
) -> SampledSpaces:
    pids = np.array([pid for pid, _ in samples], np.int32)
    times = np.array([time_ns for _, time_ns in samples], np.int64)
    return replay(snapshots, events, pids, times)


def spaces_seen(
    samples: list[tuple[int, int]], events: list[Event], snapshots: tuple[ProcessSnapshot, ...] = ()
) -> list[AddressSpace]:
    found = sampled(samples, events, snapshots)
    return [found.spaces[index] for index in found.of_sample]


OLD = mapping(10, 10, "/old", offset_page=100)


@pytest.mark.parametrize(
    ("new", "ranges"),
    [
        pytest.param(mapping(5, 2, "/new"), [(5, 7, "/new", 0), (10, 20, "/old", 100)], id="apart"),
        pytest.param(mapping(5, 5, "/new"), [(5, 10, "/new", 0), (10, 20, "/old", 100)], id="touches-left"),
        pytest.param(mapping(20, 5, "/new"), [(10, 20, "/old", 100), (20, 25, "/new", 0)], id="touches-right"),
        pytest.param(mapping(5, 8, "/new"), [(5, 13, "/new", 0), (13, 20, "/old", 103)], id="cuts-left"),
        pytest.param(mapping(18, 8, "/new"), [(10, 18, "/old", 100), (18, 26, "/new", 0)], id="cuts-right"),
        pytest.param(
            mapping(13, 2, "/new"),
            [(10, 13, "/old", 100), (13, 15, "/new", 0), (15, 20, "/old", 105)],
            id="cuts-middle",
        ),
        pytest.param(mapping(10, 10, "/new"), [(10, 20, "/new", 0)], id="replaces"),
        pytest.param(mapping(1, 90, "/new"), [(1, 91, "/new", 0)], id="swallows"),
        pytest.param(mapping(12, 0, "/new"), [(10, 20, "/old", 100)], id="empty"),
    ],
)
def test_a_new_mapping_cuts_what_lay_there(new: FileMapping, ranges: list[tuple[int, int, str, int]]) -> None:
    found = [
        (each.start // PAGE, each.end // PAGE, each.path, each.file_offset // PAGE)
        for each in space_of(OLD, new).mappings
    ]
    assert found == ranges


def test_a_cut_mapping_keeps_what_identifies_its_file() -> None:
    left, _, right = space_of(OLD, mapping(13, 2, "/new")).mappings
    for part in (left, right):
        assert (part.device, part.inode, part.build_id, part.pid) == (OLD.device, OLD.inode, OLD.build_id, OLD.pid)


PAGES = st.builds(mapping, st.integers(0, 30), st.integers(0, 12), st.sampled_from("abcd"), st.integers(0, 50))


@given(st.lists(PAGES, max_size=12))
def test_address_space_equals_a_table_of_pages(mappings: list[FileMapping]) -> None:
    table: dict[int, tuple[str, int]] = {}
    for each in mappings:
        for page in range(each.start // PAGE, each.end // PAGE):
            table[page] = (each.path, each.file_offset // PAGE + page - each.start // PAGE)
    found: dict[int, tuple[str, int]] = {}
    previous_end = 0
    for each in space_of(*mappings).mappings:
        assert previous_end <= each.start < each.end
        previous_end = each.end
        for page in range(each.start // PAGE, each.end // PAGE):
            found[page] = (each.path, each.file_offset // PAGE + page - each.start // PAGE)
    assert found == table


def test_samples_before_any_event_have_no_mappings() -> None:
    assert replayed([(1, 5)], [MapEvent(6, 1, mapping(1, 1))]) == [[]]
    assert replayed([], [MapEvent(6, 1, mapping(1, 1))]) == []


def test_a_snapshot_counts_from_the_beginning() -> None:
    snapshot = ProcessSnapshot(1, {1: "main"}, (mapping(1, 1, "/main"), mapping(2, 1, "/libc")))
    assert replayed([(1, 0), (2, 0)], [], (snapshot,)) == [["/main", "/libc"], []]


def test_a_library_is_seen_from_the_time_it_was_mapped_at() -> None:
    snapshot = ProcessSnapshot(1, {}, (mapping(1, 1, "/main"),))
    events: list[Event] = [MapEvent(10, 1, mapping(5, 1, "/plugin"))]
    assert replayed([(1, 9), (1, 10), (1, 11)], events, (snapshot,)) == [
        ["/main"],
        ["/main", "/plugin"],
        ["/main", "/plugin"],
    ]


def test_a_range_that_is_used_again_shows_its_new_file() -> None:
    events: list[Event] = [MapEvent(time_ns, 1, mapping(5, 2, path)) for time_ns, path in ((1, "/x"), (5, "/y"))]
    assert replayed([(1, 3), (1, 7)], events) == [["/x"], ["/y"]]


def test_exec_empties_the_space() -> None:
    snapshot = ProcessSnapshot(1, {}, (mapping(1, 1, "/sh"),))
    events: list[Event] = [
        CommEvent(4, 1, 1, "renamed", is_exec=False),
        CommEvent(5, 1, 1, "server", is_exec=True),
        MapEvent(6, 1, mapping(9, 1, "/server")),
    ]
    assert replayed([(1, 4), (1, 5), (1, 6)], events, (snapshot,)) == [["/sh"], [], ["/server"]]


def test_forked_processes_share_a_space_until_one_maps() -> None:
    snapshot = ProcessSnapshot(1, {}, (mapping(1, 1, "/main"),))
    events: list[Event] = [
        ForkEvent(2, 7, 7, 1, 1),
        MapEvent(5, 7, mapping(3, 1, "/child")),
        MapEvent(6, 1, mapping(4, 1, "/parent")),
    ]
    samples = [(1, 3), (7, 3), (1, 8), (7, 8)]
    before_parent, before_child, parent, child = spaces_seen(samples, events, (snapshot,))
    assert before_parent is before_child
    assert [each.path for each in parent.mappings] == ["/main", "/parent"]
    assert [each.path for each in child.mappings] == ["/main", "/child"]


def test_a_new_thread_does_not_change_its_process() -> None:
    snapshot = ProcessSnapshot(1, {}, (mapping(1, 1, "/main"),))
    events: list[Event] = [ForkEvent(2, 1, 9, 1, 1), ExitEvent(4, 1, 9)]
    assert len(sampled([(1, 1), (1, 3), (1, 5)], events, (snapshot,)).spaces) == 1


def test_a_pid_that_is_used_again_does_not_show_the_old_process() -> None:
    snapshots = (ProcessSnapshot(1, {}, (mapping(1, 1, "/a"),)), ProcessSnapshot(7, {}, (mapping(1, 1, "/old"),)))
    events: list[Event] = [ExitEvent(2, 7, 7), ForkEvent(5, 7, 7, 1, 1)]
    assert replayed([(7, 1), (7, 6)], events, snapshots) == [["/old"], ["/a"]]


@dataclass
class NaiveProcesses:
    """All mappings of all processes as lists, copied at each fork."""

    spaces: dict[int, list[FileMapping]] = field(default_factory=dict[int, list[FileMapping]])

    def apply(self, event: Event) -> None:
        if isinstance(event, MapEvent):
            self.spaces.setdefault(event.pid, []).append(event.mapping)
        elif isinstance(event, CommEvent) and event.is_exec:
            self.spaces[event.pid] = []
        elif isinstance(event, ForkEvent) and event.pid != event.parent_pid:
            self.spaces[event.pid] = list(self.spaces.get(event.parent_pid, []))


PIDS = st.integers(1, 3)
EVENTS = st.one_of(
    st.builds(lambda pid, each: MapEvent(0, pid, each), PIDS, PAGES),
    st.builds(lambda pid, is_exec: CommEvent(0, pid, pid, "x", is_exec), PIDS, st.booleans()),
    st.builds(lambda pid, parent: ForkEvent(0, pid, pid, parent, parent), PIDS, PIDS),
    st.builds(lambda pid: ExitEvent(0, pid, pid), PIDS),
)
STEPS = st.lists(st.tuples(st.integers(0, 2), EVENTS | PIDS), max_size=25)


def at_time(event: Event, time_ns: int) -> Event:
    values = {name: getattr(event, name) for name in event.__slots__}
    return type(event)(**values | {"time_ns": time_ns})


@given(STEPS)
def test_replay_equals_processes_followed_one_event_at_a_time(steps: list[tuple[int, Event | int]]) -> None:
    """Each step is an event or a sample (a pid), some time after the last; a sample sees the events of its time."""
    now = 0
    events: list[Event] = []
    samples: list[tuple[int, int]] = []
    for wait, step in steps:
        now += wait
        if isinstance(step, int):
            samples.append((step, now))
        else:
            events.append(at_time(step, now))
    expected: list[tuple[FileMapping, ...]] = []
    for pid, time_ns in samples:
        naive = NaiveProcesses()
        for event in events:
            if event.time_ns <= time_ns:
                naive.apply(event)
        expected.append(space_of(*naive.spaces.get(pid, [])).mappings)
    assert [space.mappings for space in spaces_seen(samples, events)] == expected


def test_names_of_threads_over_time() -> None:
    snapshot = ProcessSnapshot(1, {1: "main"}, ())
    events: list[Event] = [
        ForkEvent(5, 1, 2, 1, 1),
        CommEvent(8, 1, 2, "worker", False),
        CommEvent(9, 1, 1, "server", True),
        CommEvent(12, 3, 3, "late", False),
    ]
    comms = CommTimeline((snapshot,), events)
    assert [comms.comm(1, time_ns) for time_ns in (0, 8, 9)] == ["main", "main", "server"]
    assert [comms.comm(2, time_ns) for time_ns in (5, 7, 8, 99)] == ["main", "main", "worker", "worker"]
    assert comms.comm(3, 0) == "late"  # better than none
    assert comms.comm(4, 0) == ""
    assert [comms.changes(tid) for tid in (1, 2, 3, 4)] == [True, True, False, False]


def test_a_tid_that_is_used_again_has_its_new_parents_name() -> None:
    events: list[Event] = [
        CommEvent(1, 1, 1, "a", False),
        CommEvent(1, 2, 2, "b", False),
        ExitEvent(2, 2, 2),
        ForkEvent(3, 2, 2, 1, 1),
    ]
    comms = CommTimeline((), events)
    assert [comms.comm(2, time_ns) for time_ns in (2, 3)] == ["b", "a"]
