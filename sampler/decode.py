"""Turns the kernel's records into columns and events, after the recording.

The layout of each record is that of perf_event_open(2), section "MMAP layout". All samples of a
recording have one layout, so that their fields are gathered for all samples at once.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from lockflame.events import CommEvent, Event, ExitEvent, FileMapping, ForkEvent, KernelSymbolEvent, MapEvent
from lockflame.registers import X86_64_REGISTERS
from lockflame.samples import Callchains, SampleTable, StackCopies
from sampler import record_types as types

Index = NDArray[np.int64]

# A sample in words of 8 bytes: header, IDENTIFIER, IP, TID, TIME, CPU, PERIOD, then the callchain.
ID_WORD, TID_WORD, TIME_WORD, CPU_WORD, PERIOD_WORD, CHAIN_WORD = 1, 3, 4, 5, 6, 7
# What sample_id_all puts at the end of every other record: TID, TIME, CPU, IDENTIFIER.
TRAILER_BYTES = 32
# What a program in the kernel adds to a sample, between its callchain and its registers: the size, 60 bytes.
RAW_WORDS = 8
REGISTERS_ABI_64 = 2
PROT_EXEC = 4


@dataclass(frozen=True, slots=True)
class Decoded:
    """All that the records of a spool say.

    `skipped` counts records that made no sense; `covered_twice` are the late threads that had
    inherited their parent's events after all. `raw` uint64[n, 8] is what the programs in the kernel wrote with their
    samples (struct sample of futex.bpf.c, the record's own word of its size in front), 0 for CPU samples, which
    `is_cpu` bool[n] tells apart; the `period` of the others is 0.
    """

    samples: SampleTable
    raw: NDArray[np.uint64]
    is_cpu: NDArray[np.bool_]
    events: tuple[Event, ...]
    lost: int
    throttled: int
    skipped: int
    covered_twice: frozenset[int]


@dataclass(slots=True)
class _Walk:
    """What one pass over the record headers collects."""

    sample_words: list[int]
    sample_sizes: list[int]
    events: list[Event]
    lost: int = 0
    throttled: int = 0
    skipped: int = 0


def decode_spool(
    spool: IO[bytes],
    has_stacks: bool,
    late_ids: dict[int, set[int]],
    raw_ids: Collection[int] = (),
    build_ids: bool = True,
) -> Decoded:
    """Decodes a spool file; see `decode`. The columns refer to the mapped file, which stays open for them."""
    size = os.fstat(spool.fileno()).st_size
    data = mmap.mmap(spool.fileno(), size, access=mmap.ACCESS_READ) if size else b""
    return decode(data, has_stacks, late_ids, raw_ids, build_ids)


def decode(
    data: bytes | mmap.mmap,
    has_stacks: bool,
    late_ids: dict[int, set[int]],
    raw_ids: Collection[int] = (),
    build_ids: bool = True,
) -> Decoded:
    """Decodes records that stand one after the other in `data`.

    `has_stacks`: whether samples carry user registers and a stack copy. `late_ids`: for some threads,
    the ids of events of their own; they may have inherited their parent's events as well. `raw_ids`: the ids of the
    events whose samples were taken by programs in the kernel, and carry bytes of theirs. `build_ids`: whether they
    were asked for; records that say that they hold one have got that from somebody else's event (`system_wide`).
    A record that is cut off or contradicts itself is skipped and counted.
    """
    walk = _walk_headers(data, types.MISC_COMM_EXEC | (types.MISC_MMAP_BUILD_ID if build_ids else 0))
    words = np.frombuffer(data, dtype=np.uint64, count=len(data) // 8)
    at = np.array(walk.sample_words, dtype=np.int64)
    word_sizes = np.array(walk.sample_sizes, dtype=np.int64) // 8
    # A record too short to have an id has no place for what follows it either.
    has_raw = np.isin(words[np.minimum(at + ID_WORD, max(len(words) - 1, 0))], np.array([*raw_ids], dtype=np.uint64))
    is_whole = _whole_samples(words, at, word_sizes, has_stacks, has_raw)
    skipped = walk.skipped + int((~is_whole).sum())
    at, has_raw = at[is_whole], has_raw[is_whole]
    counts, covered_twice = _counting(words, at[~has_raw], late_ids)
    at = np.concatenate((at[~has_raw][counts], at[has_raw]))
    is_cpu = np.arange(len(at)) < int(counts.sum())
    order = np.argsort(words[at + TIME_WORD], kind="stable")
    at, is_cpu = at[order], is_cpu[order]
    walk.events.sort(key=lambda event: event.time_ns)
    return Decoded(
        samples=_sample_table(words, at, has_stacks, is_cpu),
        raw=_raw_words(words, at, is_cpu),
        is_cpu=is_cpu,
        events=tuple(walk.events),
        lost=walk.lost,
        throttled=walk.throttled,
        skipped=skipped,
        covered_twice=covered_twice,
    )


def of_family(events: Iterable[Event], pids: set[int]) -> Iterator[Event]:
    """The events of these processes and of those that they fork, and the kernel's own, out of `events` by time."""
    family = set(pids)
    for event in events:
        if isinstance(event, KernelSymbolEvent):
            yield event
            continue
        if isinstance(event, ForkEvent):
            if event.parent_pid not in family:
                family.discard(event.pid)  # a number that was one of the family's before
                continue
            family.add(event.pid)
        if event.pid in family:
            yield event


def _walk_headers(data: bytes | mmap.mmap, meant_misc: int) -> _Walk:
    walk = _Walk([], [], [])
    unpack = struct.Struct("<IHH").unpack_from
    end = len(data)
    at = 0
    while at + 8 <= end:
        kind, misc, size = unpack(data, at)
        if size < 8 or size % 8 or at + size > end:
            break
        if kind == types.RECORD_SAMPLE:
            walk.sample_words.append(at // 8)
            walk.sample_sizes.append(size)
        else:
            _take_other(walk, kind, misc & meant_misc, data[at + 8 : at + size])
        at += size
    # Where one record is cut off or nonsense, no later one can be found.
    walk.skipped += at < end
    return walk


def _take_other(walk: _Walk, kind: int, misc: int, body: bytes) -> None:
    try:
        if kind == types.RECORD_LOST:
            walk.lost += struct.unpack_from("<QQ", body)[1]
        elif kind == types.RECORD_THROTTLE:
            walk.throttled += 1
        elif event := _event(kind, misc, body):
            walk.events.append(event)
    except struct.error:
        walk.skipped += 1


def _event(kind: int, misc: int, body: bytes) -> Event | None:
    """The event that a record means; None for the kinds that don't matter here. Raises `struct.error`."""
    if len(body) < TRAILER_BYTES:
        raise struct.error("a record without its trailer")
    fields, trailer = body[:-TRAILER_BYTES], body[-TRAILER_BYTES:]
    time_ns = int.from_bytes(trailer[8:16], "little")
    if kind == types.RECORD_MMAP2:
        return _map_event(misc, fields, time_ns)
    if kind == types.RECORD_COMM:
        pid, tid = struct.unpack_from("<II", fields)
        return CommEvent(time_ns, pid, tid, _text(fields[8:]), bool(misc & types.MISC_COMM_EXEC))
    if kind == types.RECORD_FORK:
        pid, parent_pid, tid, parent_tid = struct.unpack_from("<IIII", fields)
        return ForkEvent(time_ns, pid, tid, parent_pid, parent_tid)
    if kind == types.RECORD_EXIT:
        pid, _, tid = struct.unpack_from("<III", fields)
        return ExitEvent(time_ns, pid, tid)
    if kind == types.RECORD_KSYMBOL:
        return _kernel_symbol_event(fields, time_ns)
    return None


def _map_event(misc: int, fields: bytes, time_ns: int) -> MapEvent | None:
    pid, _, start, length, file_offset = struct.unpack_from("<IIQQQ", fields)
    (protection,) = struct.unpack_from("<I", fields, 56)
    if not protection & PROT_EXEC:
        return None
    device, inode, build_id = (0, 0), 0, ""
    if misc & types.MISC_MMAP_BUILD_ID:
        build_id = fields[36 : 36 + min(fields[32], 20)].hex()
    else:
        major, minor, inode = struct.unpack_from("<IIQ", fields, 32)
        device = (major, minor)
    path = _text(fields[64:])
    mapping = FileMapping(start, start + length, file_offset, path, device, inode, build_id, pid)
    return MapEvent(time_ns, pid, mapping)


def _kernel_symbol_event(fields: bytes, time_ns: int) -> KernelSymbolEvent | None:
    address, size, _, flags = struct.unpack_from("<QIHH", fields)
    name = _text(fields[16:])
    if not size or not name:
        return None
    return KernelSymbolEvent(time_ns, address, size, name, bool(flags & types.KSYMBOL_UNREGISTER))


def _text(field: bytes) -> str:
    return os.fsdecode(field.split(b"\0", 1)[0])


def _whole_samples(
    words: NDArray[np.uint64], at: Index, sizes: Index, has_stacks: bool, has_raw: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which samples' inner lengths add up to their record's length."""
    is_whole = sizes > CHAIN_WORD
    length = np.zeros(len(at), dtype=np.int64)
    length[is_whole] = CHAIN_WORD + 1 + _bounded(words[at[is_whole] + CHAIN_WORD])
    is_whole &= ~has_raw | (length + RAW_WORDS <= sizes)
    raw_sizes = words[at[is_whole & has_raw] + length[is_whole & has_raw]] & np.uint64(0xFFFFFFFF)
    is_whole[is_whole & has_raw] = raw_sizes == RAW_WORDS * 8 - 4
    length += np.where(has_raw, RAW_WORDS, 0)
    if not has_stacks:
        return is_whole & (length == sizes)
    is_whole &= length < sizes
    abi = words[at[is_whole] + length[is_whole]]
    length[is_whole] += 1 + np.where(abi != 0, len(X86_64_REGISTERS), 0)
    is_whole &= length < sizes
    stack_bytes = words[at[is_whole] + length[is_whole]]
    # A copy of 0 bytes has no "dynamic size" word behind it.
    length[is_whole] += 1 + np.where(stack_bytes != 0, _bounded(stack_bytes) // 8 + 1, 0)
    return is_whole & (length == sizes)


def _bounded(values: NDArray[np.uint64]) -> Index:
    """Lengths from a record as int64; no record has 64 KiB or more."""
    return np.minimum(values, np.uint64(1 << 16)).astype(np.int64)


def _counting(
    words: NDArray[np.uint64], at: Index, late_ids: dict[int, set[int]]
) -> tuple[NDArray[np.bool_], frozenset[int]]:
    """Which samples count, and the late threads that turned out to have inherited their parent's events.

    Those, and all that they start, have every sample twice: by inherited events, and by those of late ids.
    """
    owner_of_id = {identifier: tid for tid, ids in late_ids.items() for identifier in ids}
    if not owner_of_id:
        return np.ones(len(at), dtype=np.bool_), frozenset()
    ids = words[at + ID_WORD]
    tids = words[at + TID_WORD] >> np.uint64(32)
    is_late = np.isin(ids, np.array(sorted(owner_of_id), dtype=np.uint64))
    is_double = is_late & np.isin(tids, tids[~is_late])
    return ~is_double, frozenset(owner_of_id[identifier] for identifier in set(ids[is_double].tolist()))


def _raw_words(words: NDArray[np.uint64], at: Index, is_cpu: NDArray[np.bool_]) -> NDArray[np.uint64]:
    raw = np.zeros((len(at), RAW_WORDS), dtype=np.uint64)
    start = at[~is_cpu] + CHAIN_WORD + 1 + words[at[~is_cpu] + CHAIN_WORD].astype(np.int64)
    raw[~is_cpu] = words[start[:, None] + np.arange(RAW_WORDS)]
    return raw


def _sample_table(words: NDArray[np.uint64], at: Index, has_stacks: bool, is_cpu: NDArray[np.bool_]) -> SampleTable:
    ids = words[at + TID_WORD]
    chain_start = at + CHAIN_WORD + 1
    chain_length = words[at + CHAIN_WORD].astype(np.int64)
    kernel, user = _split_chains(words, chain_start, chain_length)
    registers, has_registers, stacks = _registers_and_stacks(
        words, chain_start + chain_length + np.where(is_cpu, 0, RAW_WORDS), has_stacks
    )
    return SampleTable(
        time_ns=words[at + TIME_WORD].astype(np.int64),
        pid=(ids & np.uint64(0xFFFFFFFF)).astype(np.int32),
        tid=(ids >> np.uint64(32)).astype(np.int32),
        cpu=(words[at + CPU_WORD] & np.uint64(0xFFFFFFFF)).astype(np.int32),
        period=np.where(is_cpu, words[at + PERIOD_WORD].astype(np.int64), 0),
        kernel=kernel,
        user=user,
        registers=registers,
        has_registers=has_registers,
        stacks=stacks,
    )


def _split_chains(words: NDArray[np.uint64], start: Index, length: Index) -> tuple[Callchains, Callchains]:
    """Splits callchains at their context marks into kernel and user addresses."""
    offsets = np.concatenate(([0], np.cumsum(length)))
    addresses = words[np.repeat(start - offsets[:-1], length) + np.arange(offsets[-1])]
    is_mark = addresses >= np.uint64(types.CONTEXT_MAX)
    # A walk by frame pointers may end with a 0 where the outermost frame has no caller.
    is_code = ~is_mark & (addresses != 0)
    position = np.arange(len(addresses))
    last_mark = np.maximum.accumulate(np.where(is_mark, position, -1)) if len(addresses) else position
    has_mark = last_mark >= np.repeat(offsets[:-1], length)
    context = np.where(has_mark, addresses[last_mark], 0) if len(addresses) else addresses
    return (
        _pick(addresses, offsets, is_code & (context == np.uint64(types.CONTEXT_KERNEL))),
        _pick(addresses, offsets, is_code & (context == np.uint64(types.CONTEXT_USER))),
    )


def _pick(addresses: NDArray[np.uint64], offsets: Index, mask: NDArray[np.bool_]) -> Callchains:
    kept_before = np.concatenate(([0], np.cumsum(mask)))
    return Callchains(kept_before[offsets], addresses[mask])


def _registers_and_stacks(
    words: NDArray[np.uint64], at: Index, has_stacks: bool
) -> tuple[NDArray[np.uint64], NDArray[np.bool_], StackCopies]:
    registers = np.zeros((len(at), len(X86_64_REGISTERS)), dtype=np.uint64)
    has_registers = np.zeros(len(at), dtype=np.bool_)
    start = np.zeros(len(at), dtype=np.int64)
    count = np.zeros(len(at), dtype=np.int64)
    if has_stacks and len(at):
        abi = words[at]
        has_registers = abi == REGISTERS_ABI_64
        columns = np.arange(len(X86_64_REGISTERS))
        registers[has_registers] = words[at[has_registers, None] + 1 + columns]
        stack_at = at + 1 + np.where(abi != 0, len(X86_64_REGISTERS), 0)
        asked_bytes = words[stack_at].astype(np.int64)
        start = stack_at + 1
        has_copy = asked_bytes > 0
        copied_bytes = np.minimum(_bounded(words[(stack_at + 1 + asked_bytes // 8)[has_copy]]), asked_bytes[has_copy])
        count[has_copy] = copied_bytes // 8
    return registers, has_registers, StackCopies(words, start, count)
