"""From a recording to a profile: complete the stacks, name the frames, sum up equal samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lockflame.events import HeldFiles, HeldJitFiles
from lockflame.profile import (
    FrameKind,
    Function,
    Line,
    Location,
    Mapping,
    Profile,
    RecordingInfo,
    Stacks,
    Thread,
)
from lockflame.samples import Callchains, LockColumns, Reason, Recording, SampleTable
from symbolize import ragged
from symbolize.address_space import CommTimeline, replay
from symbolize.code_map import ADDRESS_MASK, CodeMap, Image
from symbolize.debug_files import DebugFiles
from symbolize.generated_names import GeneratedNames
from symbolize.image_names import ImageNamer
from symbolize.kernel_store import KernelStore
from symbolize.kernel_store import default_folder as kernel_store_folder
from symbolize.lock_places import placed_locks
from symbolize.name_store import NameStore
from symbolize.name_store import default_folder as name_store_folder
from symbolize.name_tables import NamedFrame
from symbolize.naming import MARKER_KEY, Name, Namer
from symbolize.rule_store import RuleStore, default_folder
from symbolize.summing import sample_types, sum_up, with_unsampled
from symbolize.unresolved import count_unresolved
from symbolize.unwind import RuleCache
from symbolize.user_stacks import UserStacks, complete_stacks

if TYPE_CHECKING:
    from symbolize.debuginfod import Debuginfod

STACK_BYTES_MOST = 65528
"""The most that a record has room for (perf_event_open(2), sample_stack_user)."""
TRUNCATED_WORTH_A_NOTE = 0.01


def symbolize(
    recording: Recording,
    info: RecordingInfo,
    ns_per_period: float = 1.0,
    held_files: HeldFiles | None = None,
    held_jit: HeldJitFiles | None = None,
    *,
    debug_folders: tuple[str, ...] = (),
    debuginfod: Debuginfod | None = None,
) -> Profile:
    """Makes a profile of a recording.

    `info` is taken over and completed with the counts found here. `ns_per_period` turns the samples'
    periods into CPU time (1 for cpu-clock, which counts nanoseconds). `held_files` are looked into
    before any path is, `held_jit` where a path leads nowhere; both stay the caller's. `debuginfod` is
    asked for debug files that aren't here.
    """
    samples = recording.samples
    spaces = replay(recording.snapshots, recording.events, samples.pid, samples.time_ns)
    code_map = CodeMap(spaces.spaces, held_files or {})
    name_store = NameStore(name_store_folder())
    debug_files = DebugFiles(debug_folders, debuginfod)
    images = ImageNamer(code_map, debug_files, name_store)
    namer = Namer(code_map, images, recording.events, KernelStore(kernel_store_folder()))
    store = RuleStore(default_folder())
    rules = RuleCache(code_map.unwind_data, lambda image: store.load(code_map.rules_key(image)))
    user = complete_stacks(samples, spaces.of_sample, code_map, rules, namer)
    for image in rules.learned:
        store.save(code_map.rules_key(image), rules.of_image(image))
    namer.generated = _name_generated(recording, user, code_map, held_files or {}, held_jit or {})
    offsets, keys = _whole_stacks(samples, replace(user, keys=namer.generated.keys))
    distinct, frames = ragged.numbered(keys)
    names = namer.names(distinct)
    representatives, stack_of_sample = ragged.distinct_rows(offsets, frames.astype(np.int32))
    threads, thread_of_sample = _threads(
        samples, CommTimeline(recording.snapshots, recording.events), recording.containers
    )
    mappings, functions, locations = _code_tables(distinct, names, code_map.images)
    unresolved = count_unresolved(offsets, frames, names, code_map.images)
    truncated = int((~user.is_whole).sum())
    notes = (
        *_truncation_notes(truncated, len(samples), info.stack_bytes),
        *_notes(namer, images, store, name_store),
        *(debuginfod.notes() if debuginfod else ()),
        *unresolved.notes(),
    )
    locks = recording.lock_columns
    counts = {
        "samples": _count(locks, Reason.CPU, len(samples)),
        "wait_samples": _count(locks, Reason.WAIT, 0),
        "holder_samples": _count(locks, Reason.RELEASE, 0) + _count(locks, Reason.HOLD, 0),
        "truncated": truncated,
        "unresolved": unresolved.total,
    }
    profile = Profile(
        sample_types=sample_types(locks),
        mappings=mappings,
        functions=functions,
        locations=locations,
        threads=threads,
        stacks=_stacks(offsets, frames, representatives),
        samples=sum_up(samples, stack_of_sample, thread_of_sample, ns_per_period, locks),
        recording=replace(info, **counts, notes=(*info.notes, *notes)),
        locks=placed_locks(recording, held_files or {}, debug_files) if recording.locks else (),
    )
    return with_unsampled(profile)


def _name_generated(
    recording: Recording, user: UserStacks, code_map: CodeMap, held_files: HeldFiles, held_jit: HeldJitFiles
) -> GeneratedNames:
    if not any(image.binary.is_generated for image in code_map.images):
        return GeneratedNames(user.keys)
    from symbolize.jit import find_jitdumps, name_generated

    times = np.repeat(recording.samples.time_ns, np.diff(user.offsets))
    dumps = find_jitdumps(recording.snapshots, recording.events, held_jit)
    return name_generated(user.keys, times, code_map, dumps, held_files, held_jit)


def _count(locks: LockColumns | None, reason: Reason, without: int) -> int:
    """How many samples were taken for that reason; `without` where no locks were recorded."""
    return without if locks is None else int((locks.reason == reason).sum())


def _whole_stacks(samples: SampleTable, user: UserStacks) -> tuple[ragged.Offsets, NDArray[np.uint64]]:
    """Each sample's code keys, leaf first: kernel, user, and a mark where the root is missing."""
    kernel = _lookup_addresses(samples.kernel)
    marks = np.full(int((~user.is_whole).sum()), MARKER_KEY)
    return ragged.join(
        [
            (samples.kernel.offsets, kernel),
            (user.offsets, user.keys),
            (ragged.offsets_of((~user.is_whole).astype(np.int64)), marks),
        ]
    )


def _lookup_addresses(chains: Callchains) -> NDArray[np.uint64]:
    """The addresses to look up: a return address points behind its call, only a leaf is exact."""
    addresses = chains.addresses - np.uint64(1)
    leaves = chains.offsets[:-1][np.diff(chains.offsets) > 0]
    addresses[leaves] = chains.addresses[leaves]
    return addresses


def _threads(
    samples: SampleTable, comms: CommTimeline, containers: dict[int, str]
) -> tuple[tuple[Thread, ...], NDArray[np.int32]]:
    """The threads that were sampled, one for each name they had, and each sample's index into them."""
    # As one number each: sorting pairs takes several times as long.
    pairs = samples.pid.astype(np.int64) << 32 | samples.tid
    distinct, first, of_sample = np.unique(pairs, return_index=True, return_inverse=True)
    threads: dict[Thread, int] = {}
    index = np.empty(len(distinct), dtype=np.int32)
    renamed: list[int] = []
    for number, row in enumerate(first.tolist()):
        pid, tid = int(samples.pid[row]), int(samples.tid[row])
        thread = Thread(pid, tid, comms.comm(tid, int(samples.time_ns[row])), containers.get(pid, ""))
        index[number] = threads.setdefault(thread, len(threads))
        if comms.changes(tid):
            renamed.append(number)
    rows = index[of_sample]
    for row in np.flatnonzero(np.isin(of_sample, renamed)).tolist():
        pid, tid = int(samples.pid[row]), int(samples.tid[row])
        thread = Thread(pid, tid, comms.comm(tid, int(samples.time_ns[row])), containers.get(pid, ""))
        rows[row] = threads.setdefault(thread, len(threads))
    return tuple(threads), rows


def _code_tables(
    keys: NDArray[np.uint64], names: list[Name], images: list[Image]
) -> tuple[tuple[Mapping, ...], tuple[Function, ...], tuple[Location, ...]]:
    mapping_index: dict[tuple[int, str], int] = {}
    function_index: dict[tuple[str, str, str, int], int] = {}
    # By identity, since comparing them takes longer: most names and frames are those of many addresses.
    code_of: dict[int, tuple[int, tuple[Line, ...]]] = {}
    line_of: dict[int, Line] = {}
    locations: list[Location] = []
    mask = int(ADDRESS_MASK)
    for key, name in zip(keys.tolist(), names, strict=True):
        code = code_of.get(id(name))
        if code is None:
            for frame in name.frames:
                if id(frame) not in line_of:
                    line_of[id(frame)] = Line(
                        function_index.setdefault(_function_of(frame), len(function_index)), frame.line
                    )
            mapping = -1
            if name.image or name.module:
                mapping = mapping_index.setdefault((name.image, name.module), len(mapping_index))
            code = code_of[id(name)] = (mapping, tuple([line_of[id(frame)] for frame in name.frames]))
        address = key if name.kind == FrameKind.KERNEL else key & mask
        locations.append(Location(address, *code, name.kind, name.reason))
    mappings = tuple(
        Mapping(0, 0, 0, module, "") if module else _mapping(images[image]) for image, module in mapping_index
    )
    return mappings, tuple([Function(*function) for function in function_index]), tuple(locations)


def _function_of(frame: NamedFrame) -> tuple[str, str, str, int]:
    """The fields of its `Function`: tuples are found in a dictionary in half the time."""
    return frame.function, frame.linkage_name, frame.path, frame.declared_line


def _mapping(image: Image) -> Mapping:
    """A binary's code as linked: what the locations' addresses mean in it."""
    binary = image.binary
    code = [segment for segment in binary.image.segments if segment.executable] if binary.image else []
    if not code:
        return Mapping(0, 0, 0, binary.path, binary.build_id)
    first = code[0]
    end = max(segment.elf_address + segment.file_size for segment in code)
    return Mapping(first.elf_address, end, first.file_offset, binary.path, binary.build_id)


def _stacks(offsets: ragged.Offsets, frames: NDArray[np.int64], representatives: NDArray[np.int64]) -> Stacks:
    lengths = np.diff(offsets)[representatives]
    rows = ragged.positions(offsets[representatives], lengths)
    return Stacks(ragged.offsets_of(lengths), frames[rows].astype(np.int32))


def _truncation_notes(truncated: int, samples: int, stack_bytes: int) -> Iterable[str]:
    if 0 < stack_bytes < STACK_BYTES_MOST and truncated > TRUNCATED_WORTH_A_NOTE * samples:
        yield (
            f"{truncated:,} of {samples:,} stacks are cut short: up to {stack_bytes:,} bytes of each were copied, "
            f"and --stack-size {STACK_BYTES_MOST} may complete them."
        )


def _notes(namer: Namer, images: ImageNamer, rules: RuleStore, names: NameStore) -> Iterable[str]:
    if rules.damaged:
        yield f"{rules.damaged} damaged files of unwind rules in {default_folder()} were left out."
    if names.problem:
        yield f"Names couldn't be kept for the next recording in {name_store_folder()}: {names.problem}."
    if names.damaged:
        yield f"{names.damaged} damaged files of names in {name_store_folder()} were left out."
    yield from namer.generated.all_notes()
    yield from images.notes()
