from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampler.decode import Decoded, decode
from tests.unit.sampler.records import KERNEL, NO_USER_STATE, REGISTERS, USER, UserState, comm, record, sample

GUEST_KERNEL = 2**64 - 2176


def decode_plain(*records: bytes) -> Decoded:
    return decode(b"".join(records), has_stacks=False, late_ids={})


def decode_stacks(*records: bytes) -> Decoded:
    return decode(b"".join(records), has_stacks=True, late_ids={})


def chains_of(decoded: Decoded) -> list[tuple[list[int], list[int]]]:
    samples = decoded.samples
    return [(samples.kernel[row].tolist(), samples.user[row].tolist()) for row in range(len(samples))]


def test_no_bytes_are_no_samples() -> None:
    for has_stacks in (False, True):
        decoded = decode(b"", has_stacks, {})
        assert (len(decoded.samples), decoded.events, decoded.skipped, decoded.lost) == (0, (), 0, 0)


def test_fields_of_a_sample() -> None:
    samples = decode_plain(sample(time_ns=5, pid=10, tid=11, cpu=3, period=1_000_000, chain=(USER, 7))).samples
    row = (samples.time_ns[0], samples.pid[0], samples.tid[0], samples.cpu[0], samples.period[0])
    assert row == (5, 10, 11, 3, 1_000_000)
    assert (samples.pid.dtype, samples.time_ns.dtype, samples.period.dtype) == (np.int32, np.int64, np.int64)


@pytest.mark.parametrize(
    ("chain", "kernel", "user"),
    [
        ((), [], []),
        ((KERNEL, 2**64 - 2**32, 2**63, USER, 0x10, 0x20), [2**64 - 2**32, 2**63], [0x10, 0x20]),
        ((USER, 0x10), [], [0x10]),
        ((KERNEL, 2**63), [2**63], []),
        ((KERNEL, USER, 0x10), [], [0x10]),
        ((0x10, 0x20), [], []),  # nothing says whose addresses these are
        ((GUEST_KERNEL, 2**63, USER, 0x10), [], [0x10]),
        ((USER, 0x10, 0x20, 0), [], [0x10, 0x20]),  # the outermost frame has no caller
    ],
)
def test_callchain_is_split_at_its_context_marks(chain: tuple[int, ...], kernel: list[int], user: list[int]) -> None:
    assert chains_of(decode_plain(sample(chain=chain))) == [(kernel, user)]


def test_a_context_mark_does_not_reach_into_the_next_sample() -> None:
    decoded = decode_plain(sample(time_ns=1, chain=(USER, 1)), sample(time_ns=2, chain=(2, 3)), sample(time_ns=3))
    assert chains_of(decoded) == [([], [1]), ([], []), ([], [])]


def test_samples_are_ordered_by_time_over_all_cpus() -> None:
    cpu0 = [sample(time_ns=time_ns, cpu=0, chain=(USER, time_ns)) for time_ns in (10, 30, 50)]
    cpu1 = [sample(time_ns=time_ns, cpu=1, chain=(USER, time_ns)) for time_ns in (5, 30, 45)]
    decoded = decode_plain(*cpu0, *cpu1)
    assert decoded.samples.time_ns.tolist() == [5, 10, 30, 30, 45, 50]
    assert decoded.samples.cpu.tolist() == [1, 0, 0, 1, 1, 0]
    assert chains_of(decoded) == [([], [time_ns]) for time_ns in (5, 10, 30, 30, 45, 50)]


def test_registers_and_stack_copy() -> None:
    decoded = decode_stacks(sample(chain=(USER, 1), state=UserState(stack=(7, 8, 9))))
    samples = decoded.samples
    assert samples.has_registers.tolist() == [True]
    assert samples.registers[0].tolist() == list(range(100, 100 + REGISTERS))
    assert stack_of(decoded, 0) == [7, 8, 9]
    assert decoded.skipped == 0


def stack_of(decoded: Decoded, row: int) -> list[int]:
    stacks = decoded.samples.stacks
    return stacks.words[stacks.start[row] : stacks.start[row] + stacks.count[row]].tolist()


def test_kernel_thread_has_no_registers_and_no_stack() -> None:
    decoded = decode_stacks(sample(chain=(KERNEL, 2**63), state=NO_USER_STATE))
    assert decoded.samples.has_registers.tolist() == [False]
    assert not decoded.samples.registers.any()
    assert (stack_of(decoded, 0), decoded.skipped) == ([], 0)


def test_registers_of_a_32_bit_program_are_not_taken_for_64_bit_ones() -> None:
    decoded = decode_stacks(sample(state=UserState(abi=1, stack=(1, 2))), sample(time_ns=1, state=UserState()))
    assert decoded.samples.has_registers.tolist() == [False, True]
    assert not decoded.samples.registers[0].any()
    assert (len(decoded.samples), decoded.skipped) == (2, 0)


@pytest.mark.parametrize(("copied_bytes", "words"), [(0, 0), (8, 1), (17, 2), (24, 3), (32, 3), (2**63, 3)])
def test_only_the_copied_part_of_the_stack_counts(copied_bytes: int, words: int) -> None:
    decoded = decode_stacks(sample(state=UserState(stack=(7, 8, 9), copied_bytes=copied_bytes)))
    assert stack_of(decoded, 0) == [7, 8, 9][:words]


def test_samples_with_and_without_stacks_stay_apart() -> None:
    states = [UserState(stack=(1, 2)), NO_USER_STATE, UserState(), UserState(stack=(3,)), UserState(abi=1)]
    decoded = decode_stacks(*(sample(time_ns=at, chain=(USER, at), state=state) for at, state in enumerate(states, 1)))
    assert [stack_of(decoded, row) for row in range(5)] == [[1, 2], [], [], [3], []]
    assert decoded.samples.has_registers.tolist() == [True, False, True, True, False]
    assert chains_of(decoded) == [([], [at]) for at in range(1, 6)]


GOOD = sample(time_ns=9, chain=(USER, 9))
WORDS = struct.Struct("<4Q").pack


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(sample(chain=(USER, 1), chain_length=3), id="one-address-too-many"),
        pytest.param(sample(chain=(USER, 1), chain_length=1), id="one-address-too-few"),
        pytest.param(sample(chain=(USER, 1), chain_length=2**64 - 1), id="huge-chain"),
        pytest.param(sample(chain=(USER, 1), chain_length=2**63), id="chain-of-the-sign-bit"),
        pytest.param(record(9, b""), id="header-alone"),
        pytest.param(record(9, WORDS(1, 2, 3, 4)), id="no-callchain"),
    ],
)
def test_a_sample_that_contradicts_itself_is_skipped_and_counted(bad: bytes) -> None:
    decoded = decode_plain(bad, GOOD)
    assert (decoded.samples.time_ns.tolist(), decoded.skipped) == ([9], 1)


def with_last_words(state: UserState, *words: int) -> bytes:
    """A sample whose user state ends with other words than it should, at the same length."""
    content = bytes(state)
    plain = sample(chain=(USER, 1), state=state)
    return plain[: len(plain) - 8 * len(words)] + struct.pack(f"<{len(words)}Q", *words) if content else plain


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(sample(chain=(USER, 1)), id="no-user-state"),
        pytest.param(with_last_words(UserState(stack=(1,)), 16, 1, 8), id="stack-beyond-the-record"),
        pytest.param(with_last_words(UserState(stack=(1,)), 2**64 - 8, 1, 8), id="huge-stack"),
        pytest.param(with_last_words(UserState(stack=(1,)), 0, 1, 8), id="stack-size-0-with-a-copy"),
        pytest.param(with_last_words(UserState(), 8), id="stack-without-its-words"),
        pytest.param(with_last_words(NO_USER_STATE, 2, 0), id="registers-beyond-the-record"),
    ],
)
def test_user_state_that_does_not_fit_its_record_is_skipped_and_counted(bad: bytes) -> None:
    decoded = decode_stacks(bad, sample(time_ns=9, state=NO_USER_STATE))
    assert (decoded.samples.time_ns.tolist(), decoded.skipped) == ([9], 1)


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 40, len(GOOD) - 1])
def test_a_record_cut_off_at_the_end_counts_as_skipped(cut: int) -> None:
    decoded = decode_plain(sample(time_ns=1), GOOD[:cut])
    assert (decoded.samples.time_ns.tolist(), decoded.skipped) == ([1], 1)


@pytest.mark.parametrize("size", [0, 7, 9, 12])
def test_nothing_is_read_behind_a_size_that_no_record_has(size: int) -> None:
    decoded = decode_plain(GOOD, record(9, bytes(64), size=size), GOOD)
    assert (len(decoded.samples), decoded.skipped) == (1, 1)


def test_what_a_late_thread_and_its_children_inherited_counts_once() -> None:
    """Thread 5 was found late though it had inherited events (id 100); thread 8 is its child, 9 that of late 7."""
    records = [
        sample(time_ns=1, tid=5, event_id=100),
        sample(time_ns=2, tid=5, event_id=200),
        sample(time_ns=3, tid=5, event_id=201),
        sample(time_ns=4, tid=6, event_id=100),
        sample(time_ns=5, tid=7, event_id=300),
        sample(time_ns=6, tid=8, event_id=100),
        sample(time_ns=7, tid=8, event_id=200),
        sample(time_ns=8, tid=9, event_id=300),
    ]
    decoded = decode(b"".join(records), False, {5: {200, 201}, 7: {300}})
    assert decoded.samples.time_ns.tolist() == [1, 4, 5, 6, 8]
    assert decoded.covered_twice == {5}
    assert decoded.skipped == 0


def test_a_late_thread_without_samples_is_not_covered_twice() -> None:
    assert decode(sample(tid=1), False, {9: {1}}).covered_twice == frozenset()


@given(data=st.binary(max_size=400), has_stacks=st.booleans())
def test_random_bytes_never_raise(data: bytes, has_stacks: bool) -> None:
    decode(data, has_stacks, {1: {1}})


WORD = st.sampled_from([0, 1, 2, 8, 16, 2**16, 2**32, 2**63, 2**64 - 1, USER, KERNEL]) | st.integers(0, 2**64 - 1)


@given(words=st.lists(WORD, max_size=60), kind=st.sampled_from([9, 9, 9, 2, 3, 4, 7, 10]), has_stacks=st.booleans())
def test_records_of_random_words_never_raise_nor_hide_the_next(words: list[int], kind: int, has_stacks: bool) -> None:
    garbage = record(kind, struct.pack(f"<{len(words)}Q", *words))
    decoded = decode(garbage + comm(1, 4, 4, b"next"), has_stacks, {})
    assert "next" in [getattr(event, "comm", "") for event in decoded.events]


@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_one_changed_byte_never_raises(position: int, value: int) -> None:
    data = bytearray(b"".join(sample(time_ns=at, chain=(USER, 1), state=UserState(stack=(1, 2))) for at in range(3)))
    data[position % len(data)] = value
    decoded = decode(bytes(data), True, {})
    assert len(decoded.samples) <= 3
