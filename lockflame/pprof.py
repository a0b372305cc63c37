"""Writes and reads the profile file: gzipped pprof (profile.proto) with Lockflame's extension fields."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import fields

import numpy as np
from google.protobuf.message import DecodeError

from lockflame.errors import LockflameError, reason_of
from lockflame.profile import (
    CPU,
    HISTOGRAM_BUCKETS,
    FrameKind,
    Function,
    FutexOperation,
    Line,
    Location,
    Lock,
    Mapping,
    Memory,
    Profile,
    RecordingInfo,
    SampleColumns,
    SampleType,
    Stacks,
    Thread,
    WaitEnds,
)
from lockflame.profile_pb2 import Label
from lockflame.profile_pb2 import Lock as LockMessage
from lockflame.profile_pb2 import Profile as Message
from lockflame.profile_pb2 import Sample as SampleMessage

FORMAT = 1
COMPRESSION_LEVEL = 5
# A gzip file can hold a thousand times its size; no recording comes near to this.
BYTES_MOST = 1 << 31
FILE_BYTES_MOST = 1 << 29
READ_BYTES = 1 << 20

_KINDS = {kind.value: kind for kind in FrameKind}
_MEMORIES = {memory.value: memory for memory in Memory}
_OPERATIONS = {operation.value: operation for operation in FutexOperation}
_ENDS = tuple(field.name for field in fields(WaitEnds))
# What a lock's message has under the same name.
_LOCK_TEXTS = ("symbol", "name", "kind")
_LOCK_VALUES = ("pid", "address", "has_owner", "is_idle", "total_ns", "max_ns", "threads", "unreleased_ns")


def encode(profile: Profile) -> bytes:
    """The content of a `.pb.gz` file. The same profile gives the same bytes."""
    message = Message()
    strings = _Strings()
    for sample_type in profile.sample_types:
        message.sample_type.add(type=strings[sample_type.name], unit=strings[sample_type.unit])
    _encode_code(message, profile, strings)
    _encode_samples(message, profile, strings)
    message.lock.extend(_lock_message(lock) for lock in profile.locks)
    _encode_recording(message, profile, strings)
    message.format = FORMAT
    message.string_table.extend(strings.table)
    return gzip.compress(message.SerializeToString(), COMPRESSION_LEVEL, mtime=0)


class _Strings:
    """Interns strings; index 0 is the empty one, as pprof wants it."""

    def __init__(self) -> None:
        self.table = [""]
        self._index = {"": 0}

    def __getitem__(self, text: str) -> int:
        index = self._index.get(text)
        if index is None:
            index = self._index[text] = len(self.table)
            self.table.append(_utf8(text))
        return index


def _utf8(text: str) -> str:
    """Names come from outside and may hold bytes that are no UTF-8, which protobuf's strings must be."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _encode_code(message: Message, profile: Profile, strings: _Strings) -> None:
    has_lines = any(line.line for location in profile.locations for line in location.lines)
    for index, mapping in enumerate(profile.mappings):
        message.mapping.add(
            id=index + 1,
            memory_start=mapping.start,
            memory_limit=mapping.end,
            file_offset=mapping.file_offset,
            filename=strings[mapping.path],
            build_id=strings[mapping.build_id],
            # These keep pprof from looking for symbols itself.
            has_functions=True,
            has_filenames=has_lines,
            has_line_numbers=has_lines,
            has_inline_frames=has_lines,
        )
    for index, function in enumerate(profile.functions):
        message.function.add(
            id=index + 1,
            name=strings[function.name],
            system_name=strings[function.linkage_name],
            filename=strings[function.path],
            start_line=function.line,
        )
    for index, location in enumerate(profile.locations):
        entry = message.location.add(
            id=index + 1,
            mapping_id=location.mapping + 1,
            address=location.address,
            kind=location.kind,
            unresolved_reason=strings[location.unresolved_reason],
        )
        for line in location.lines:
            entry.line.add(function_id=line.function + 1, line=line.line)


def _encode_samples(message: Message, profile: Profile, strings: _Strings) -> None:
    pid_key, tid_key, thread_key = strings["pid"], strings["tid"], strings["thread"]
    container_key = strings["container"] if any(thread.container for thread in profile.threads) else 0
    stacks = [(profile.stacks[index] + 1).tolist() for index in range(len(profile.stacks))]
    comms = [strings[thread.comm] for thread in profile.threads]
    containers = [strings[thread.container] for thread in profile.threads]
    stack_rows: list[int] = profile.samples.stack.tolist()
    thread_rows: list[int] = profile.samples.thread.tolist()
    value_rows: list[list[int]] = profile.samples.values.tolist()
    lock_rows: list[int] = profile.samples.lock.tolist()
    for stack, thread, values, lock in zip(stack_rows, thread_rows, value_rows, lock_rows, strict=True):
        sample = message.sample.add(location_id=stacks[stack], value=values)
        if lock >= 0:
            sample.lock = lock + 1
            _label_lock(sample, profile.locks[lock], strings)
        sample.label.add(key=pid_key, num=profile.threads[thread].pid)
        sample.label.add(key=tid_key, num=profile.threads[thread].tid)
        if comms[thread]:
            sample.label.add(key=thread_key, str=comms[thread])
        if containers[thread]:
            sample.label.add(key=container_key, str=containers[thread])


def _label_lock(sample: SampleMessage, lock: Lock, strings: _Strings) -> None:
    sample.label.add(key=strings["lock"], str=strings[lock.name])
    sample.label.add(key=strings["lock_address"], num=_signed(lock.address))
    sample.label.add(key=strings["lock_kind"], str=strings[lock.kind])


def _signed(address: int) -> int:
    """A label's number has a sign (profile.proto); no user address needs the bit."""
    return address - (address >> 63 << 64)


def _lock_message(lock: Lock) -> LockMessage:
    message = LockMessage(memory=lock.memory, operation=lock.operation)
    for name in _LOCK_VALUES:
        setattr(message, name, getattr(lock, name))
    for name in _LOCK_TEXTS:
        setattr(message, name, _utf8(getattr(lock, name)))
    for name in _ENDS:
        setattr(message, name, getattr(lock.ends, name))
    used = max((index + 1 for index, count in enumerate(lock.histogram) if count), default=0)
    message.histogram.extend(lock.histogram[:used])
    return message


def _encode_recording(message: Message, profile: Profile, strings: _Strings) -> None:
    info = profile.recording
    message.time_nanos = info.started_unix_ns
    message.duration_nanos = info.duration_ns
    if info.frequency_asked_hz:
        message.period_type.type, message.period_type.unit = strings[CPU.name], strings[CPU.unit]
        message.period = 10**9 // info.frequency_asked_hz
    if CPU in profile.sample_types:
        message.default_sample_type = strings[CPU.name]
    message.comment.extend(strings[note] for note in info.notes)
    for field in fields(RecordingInfo):
        value = getattr(info, field.name)
        if field.name == "notes":
            message.recording.notes.extend(_utf8(note) for note in value)
        else:
            setattr(message.recording, field.name, _utf8(value) if isinstance(value, str) else value)


def read(path: str) -> Profile:
    """Reads a profile file. Raises `LockflameError` when it can't be read or isn't a valid profile."""
    try:
        with open(path, "rb") as file:
            content = file.read(FILE_BYTES_MOST + 1)
    except OSError as error:
        raise LockflameError(f"cannot read {path}", reason_of(error), "check the path") from error
    if len(content) > FILE_BYTES_MOST:
        raise LockflameError(f"cannot read {path}", f"it is larger than {FILE_BYTES_MOST >> 20} MiB", "check the path")
    return decode(content, path)


def decode(content: bytes, name: str) -> Profile:
    """The profile in the content of a `.pb.gz` file called `name`. Raises `LockflameError`."""
    message = Message()
    if not content:
        raise LockflameError(f"cannot read {name}", "it is empty", "give a file that lockflame record has written")
    try:
        message.ParseFromString(_decompress(content, name))
        if message.format > FORMAT:
            raise LockflameError(
                f"cannot read {name}",
                f"it was written by a newer Lockflame (format {message.format}, this one knows {FORMAT})",
                "update lockflame",
            )
        return _Decoder(message).profile()
    except (DecodeError, _Invalid) as error:
        raise LockflameError(
            f"cannot read {name}",
            f"it is not a valid pprof profile ({error})",
            "give a file that lockflame record has written",
        ) from error


class _Invalid(Exception):
    """What is wrong in a profile that could be parsed."""


def _decompress(content: bytes, name: str) -> bytes:
    try:
        pieces: list[bytes] = []
        total = 0
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            while piece := file.read(READ_BYTES):
                pieces.append(piece)
                total += len(piece)
                if total > BYTES_MOST:
                    raise LockflameError(
                        f"cannot read {name}",
                        f"it unpacks to more than {BYTES_MOST >> 30} GiB",
                        "check where it is from",
                    )
        return b"".join(pieces)
    except EOFError as error:
        raise LockflameError(f"cannot read {name}", "it is cut off", "copy or record it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise LockflameError(
            f"cannot read {name}", f"it is not a whole gzip file ({error})", "give a profile file (.pb.gz)"
        ) from error


class _Decoder:
    """Turns a message into a `Profile`, checking each index. Raises `_Invalid`."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self._strings = message.string_table
        if not self._strings or self._strings[0]:
            raise _Invalid("its string table doesn't begin with the empty string")

    def profile(self) -> Profile:
        message = self._message
        if not message.sample_type:
            raise _Invalid("it has no sample types")
        sample_types = tuple(
            SampleType(self._text(entry.type), self._text(entry.unit)) for entry in message.sample_type
        )
        mapping_of_id = _index_by_id("mapping", [mapping.id for mapping in message.mapping])
        function_of_id = _index_by_id("function", [function.id for function in message.function])
        location_of_id = _index_by_id("location", [location.id for location in message.location])
        functions = [
            Function(
                self._text(entry.name), self._text(entry.system_name), self._text(entry.filename), entry.start_line
            )
            for entry in message.function
        ]
        locations = self._locations(mapping_of_id, function_of_id, functions)
        locks = tuple(_lock(entry) for entry in message.lock)
        stacks, samples, threads = self._samples(location_of_id, len(sample_types), len(locks))
        return Profile(
            sample_types=sample_types,
            mappings=tuple(self._mappings()),
            functions=tuple(functions),
            locations=locations,
            threads=threads,
            stacks=stacks,
            samples=samples,
            recording=self._recording(),
            locks=locks,
        )

    def _text(self, index: int) -> str:
        if not 0 <= index < len(self._strings):
            raise _Invalid(f"string {index} is not in its string table")
        return self._strings[index]

    def _mappings(self) -> list[Mapping]:
        return [
            Mapping(
                entry.memory_start,
                entry.memory_limit,
                entry.file_offset,
                self._text(entry.filename),
                self._text(entry.build_id),
            )
            for entry in self._message.mapping
        ]

    def _locations(
        self, mapping_of_id: dict[int, int], function_of_id: dict[int, int], functions: list[Function]
    ) -> tuple[Location, ...]:
        locations: list[Location] = []
        for entry in self._message.location:
            lines = tuple(Line(_lookup(function_of_id, line.function_id, "function"), line.line) for line in entry.line)
            if not lines:
                # Others leave addresses unnamed; a frame needs a name to be shown.
                functions.append(Function(f"0x{entry.address:x}", ""))
                lines = (Line(len(functions) - 1),)
            locations.append(
                Location(
                    address=entry.address,
                    mapping=_lookup(mapping_of_id, entry.mapping_id, "mapping") if entry.mapping_id else -1,
                    lines=lines,
                    kind=_KINDS.get(entry.kind, FrameKind.USER),
                    unresolved_reason=self._text(entry.unresolved_reason),
                )
            )
        return tuple(locations)

    def _samples(
        self, location_of_id: dict[int, int], types: int, locks: int
    ) -> tuple[Stacks, SampleColumns, tuple[Thread, ...]]:
        stacks: dict[tuple[int, ...], int] = {}
        threads: dict[Thread, int] = {}
        rows: list[tuple[int, int, int]] = []
        values: list[Sequence[int]] = []
        for sample in self._message.sample:
            if len(sample.value) != types:
                raise _Invalid(f"a sample has {len(sample.value)} values instead of {types}")
            stack = tuple(sample.location_id)
            thread = self._thread(sample.label)
            if not 0 <= sample.lock <= locks:
                raise _Invalid(f"lock {sample.lock} is not in it")
            rows.append(
                (stacks.setdefault(stack, len(stacks)), threads.setdefault(thread, len(threads)), sample.lock - 1)
            )
            values.append(sample.value)
        columns = np.array(rows, dtype=np.int32).reshape(-1, 3)
        numbers = np.array(values, dtype=np.int64).reshape(-1, types)
        offsets = np.cumsum([0, *map(len, stacks)], dtype=np.int64)
        locations = [_lookup(location_of_id, identifier, "location") for stack in stacks for identifier in stack]
        return (
            Stacks(offsets, np.array(locations, dtype=np.int32)),
            SampleColumns(columns[:, 0], columns[:, 1], numbers, columns[:, 2]),
            tuple(threads),
        )

    def _thread(self, labels: Iterable[Label]) -> Thread:
        texts = {self._text(label.key): self._text(label.str) for label in labels}
        numbers = {self._text(label.key): label.num for label in labels}
        return Thread(numbers.get("pid", 0), numbers.get("tid", 0), texts.get("thread", ""), texts.get("container", ""))

    def _recording(self) -> RecordingInfo:
        if not self._message.HasField("recording"):
            return RecordingInfo(started_unix_ns=self._message.time_nanos, duration_ns=self._message.duration_nanos)
        message = self._message.recording
        values = {field.name: getattr(message, field.name) for field in fields(RecordingInfo)}
        values["notes"] = tuple(message.notes)
        return RecordingInfo(**values)


def _lock(message: LockMessage) -> Lock:
    """Raises `_Invalid`."""
    if message.memory not in _MEMORIES or message.operation not in _OPERATIONS:
        raise _Invalid("a lock's memory or operation isn't known")
    if len(message.histogram) > HISTOGRAM_BUCKETS:
        raise _Invalid(f"a lock's histogram has {len(message.histogram)} buckets")
    ends = WaitEnds(**{name: getattr(message, name) for name in _ENDS})
    values = {name: getattr(message, name) for name in (*_LOCK_VALUES, *_LOCK_TEXTS)}
    counts = (*message.histogram, message.total_ns, message.max_ns, message.threads, message.unreleased_ns)
    if min(*counts, *(getattr(ends, name) for name in _ENDS)) < 0:
        raise _Invalid("a lock has a count below 0")
    padding = (0,) * (HISTOGRAM_BUCKETS - len(message.histogram))
    return Lock(
        memory=_MEMORIES[message.memory],
        operation=_OPERATIONS[message.operation],
        ends=ends,
        histogram=(*message.histogram, *padding),
        **values,
    )


def _index_by_id(what: str, identifiers: list[int]) -> dict[int, int]:
    index = {identifier: at for at, identifier in enumerate(identifiers)}
    if len(index) != len(identifiers) or 0 in index:
        raise _Invalid(f"a {what} id is 0 or is used twice")
    return index


def _lookup(index: dict[int, int], identifier: int, what: str) -> int:
    try:
        return index[identifier]
    except KeyError:
        raise _Invalid(f"{what} {identifier} is not in it") from None
