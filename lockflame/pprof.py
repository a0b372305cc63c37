"""Writes and reads the profile file: gzipped pprof (profile.proto) with Lockflame's extension fields."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import IO, cast

import numpy as np
from google.protobuf.message import DecodeError

from lockflame.errors import LockflameError, reason_of
from lockflame.pprof_samples import decode_samples, encode_samples
from lockflame.pprof_tables import Tables, decode_code, encode_code, profile_of, tables_of
from lockflame.profile import (
    CPU,
    DELAY,
    HISTOGRAM_BUCKETS,
    FutexOperation,
    HoldTimes,
    Lock,
    Mapping,
    Memory,
    Profile,
    RecordingInfo,
    SampleType,
    WaitEnds,
)
from lockflame.profile_pb2 import Lock as LockMessage
from lockflame.profile_pb2 import ProfileRows
from lockflame.wire import WireError, check_top_level

FORMAT = 1
COMPRESSION_LEVEL = 5
# What is large is packed faster, for a few percent more.
LARGE_BYTES = 16 << 20
LARGE_COMPRESSION_LEVEL = 1
# A gzip file can hold a thousand times its size; no recording comes near to this.
BYTES_MOST = 1 << 29
FILE_BYTES_MOST = 1 << 29
READ_BYTES = 1 << 20

_SAMPLE_FIELD = 2

_MEMORIES = {memory.value: memory for memory in Memory}
_OPERATIONS = {operation.value: operation for operation in FutexOperation}
_ENDS = tuple(field.name for field in fields(WaitEnds))
# What a lock's message has under the same name.
_LOCK_TEXTS = ("symbol", "name", "kind")
_LOCK_VALUES = (
    *("pid", "address", "has_owner", "is_idle"),
    *("total_ns", "max_ns", "threads", "unreleased_ns", "woken_ns"),
)


def encode(profile: Profile) -> bytes:
    """The content of a `.pb.gz` file. The same profile gives the same bytes."""
    return encode_tables(tables_of(profile))


def encode_tables(tables: Tables) -> bytes:
    """The same of columns."""
    strings = _Strings()
    head, tail = ProfileRows(), ProfileRows()
    for sample_type in tables.sample_types:
        head.sample_type.add(type=strings[sample_type.name], unit=strings[sample_type.unit])
    _encode_mappings(tail, tables, strings)
    functions, locations = encode_code(tables, strings.__getitem__)
    tail.function.extend(functions)
    tail.location.extend(locations)
    samples = encode_samples(tables.rows, tables.locks, strings.__getitem__, _SAMPLE_FIELD)
    tail.lock.extend(_lock_message(lock) for lock in tables.locks)
    _encode_recording(tail, tables, strings)
    tail.format = FORMAT
    tail.string_table.extend(strings.table)
    # Parts of a message one after the other are the whole: samples, which are many, never become one message of it.
    return _gzipped([head.SerializeToString(), *samples, tail.SerializeToString()])


def _gzipped(parts: Sequence[bytes]) -> bytes:
    level = COMPRESSION_LEVEL if sum(map(len, parts)) < LARGE_BYTES else LARGE_COMPRESSION_LEVEL
    # With the head of gzip (zlib's manual: 16 more than the bits of the window), which tells no time.
    packer = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return b"".join([*map(packer.compress, parts), packer.flush()])


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


def _encode_mappings(message: ProfileRows, tables: Tables, strings: _Strings) -> None:
    has_lines = bool(tables.locations.line_number.any())
    for index, mapping in enumerate(tables.mappings):
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


def _lock_message(lock: Lock) -> LockMessage:
    message = LockMessage(memory=lock.memory, operation=lock.operation)
    for name in _LOCK_VALUES:
        setattr(message, name, getattr(lock, name))
    for name in _LOCK_TEXTS:
        setattr(message, name, _utf8(getattr(lock, name)))
    for name in _ENDS:
        setattr(message, name, getattr(lock.ends, name))
    message.histogram.extend(_without_empty_end(lock.histogram))
    if lock.held is not None:
        message.holds, message.held_ns, message.held_max_ns = lock.held.count, lock.held.total_ns, lock.held.max_ns
        message.held_histogram.extend(_without_empty_end(lock.held.histogram))
    return message


def _without_empty_end(histogram: tuple[int, ...]) -> tuple[int, ...]:
    used = max((index + 1 for index, count in enumerate(histogram) if count), default=0)
    return histogram[:used]


def _encode_recording(message: ProfileRows, tables: Tables, strings: _Strings) -> None:
    info = tables.recording
    message.time_nanos = info.started_unix_ns
    message.duration_nanos = info.duration_ns
    if info.frequency_asked_hz:
        message.period_type.type, message.period_type.unit = strings[CPU.name], strings[CPU.unit]
        message.period = 10**9 // info.frequency_asked_hz
    # What pprof shows; it would take the last else.
    shown = next((kind for kind in (CPU, DELAY, *tables.sample_types) if kind in tables.sample_types), None)
    if shown is not None:
        message.default_sample_type = strings[shown.name]
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


def _decode_gzipped(content: bytes, name: str) -> Tables:
    """The columns of a `.pb.gz` file called `name`. Raises `LockflameError`."""
    with unpacking(name):
        file = gzip.GzipFile(fileobj=io.BytesIO(content))
        return decode_tables(read_unpacked(cast("IO[bytes]", file), name), name)


def decode(content: bytes, name: str) -> Profile:
    """The profile in the content of a `.pb.gz` file called `name`. Raises `LockflameError`."""
    if not content:
        raise LockflameError(f"cannot read {name}", "it is empty", "give a file that lockflame record has written")
    return profile_of(_decode_gzipped(content, name))


def read_unpacked(file: IO[bytes], name: str) -> bytes:
    """All that there is in a file, up to `BYTES_MOST`. Raises `LockflameError` if there is more."""
    content = bytearray()
    while piece := file.read(READ_BYTES):
        content += piece
        if len(content) > BYTES_MOST:
            raise LockflameError(
                f"cannot read {name}", f"it unpacks to more than {BYTES_MOST >> 20} MiB", "check where it is from"
            )
    return bytes(content)


@contextmanager
def unpacking(name: str) -> Generator[None]:
    """Turns what a bad gzip file raises into `LockflameError`."""
    try:
        yield
    except EOFError as error:
        raise LockflameError(f"cannot read {name}", "it is cut off", "copy or record it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise LockflameError(
            f"cannot read {name}", f"it is not a whole gzip file ({error})", "give a profile file (.pb.gz)"
        ) from error


def decode_unpacked(content: bytes, name: str) -> Profile:
    """The profile in a pprof message that isn't gzipped, or not any more. Raises `LockflameError`."""
    return profile_of(decode_tables(content, name))


def decode_tables(content: bytes, name: str) -> Tables:
    """The same as columns.

    In files of other tools the sample type that pprof shows comes first.
    """
    message = ProfileRows()
    try:
        check_top_level(content, samples=_SAMPLE_FIELD)
        message.ParseFromString(content)
        if message.format > FORMAT:
            raise LockflameError(
                f"cannot read {name}",
                f"it was written by a newer Lockflame (format {message.format}, this one knows {FORMAT})",
                "update lockflame",
            )
        tables = _Decoder(message).tables()
        return tables if message.format else _shown_first(tables, message)
    except (DecodeError, WireError, _Invalid) as error:
        raise LockflameError(
            f"cannot read {name}",
            f"it is not a valid pprof profile ({error})",
            "give a file that lockflame record has written",
        ) from error


def _shown_first(tables: Tables, message: ProfileRows) -> Tables:
    """Puts first what pprof shows by default: the type that the file names, else the last (profile.proto)."""
    names = [kind.name for kind in tables.sample_types]
    wanted = message.string_table[message.default_sample_type] if _is_text(message, message.default_sample_type) else ""
    first = names.index(wanted) if wanted in names else len(names) - 1
    order = [first, *(index for index in range(len(names)) if index != first)]
    samples = replace(tables.rows.samples, values=tables.rows.samples.values[:, order])
    kinds = tuple(tables.sample_types[index] for index in order)
    return replace(tables, sample_types=kinds, rows=replace(tables.rows, samples=samples))


def _is_text(message: ProfileRows, index: int) -> bool:
    return 0 <= index < len(message.string_table)


class _Invalid(Exception):
    """What is wrong in a profile that could be parsed."""


class _Decoder:
    """Turns a message into a `Profile`, checking each index. Raises `_Invalid`."""

    def __init__(self, message: ProfileRows) -> None:
        self._message = message
        self._strings = list(message.string_table)
        if not self._strings or self._strings[0]:
            raise _Invalid("its string table doesn't begin with the empty string")

    def tables(self) -> Tables:
        message = self._message
        if not message.sample_type:
            raise _Invalid("it has no sample types")
        sample_types = tuple(
            SampleType(self._text(entry.type), self._text(entry.unit)) for entry in message.sample_type
        )
        mapping_ids = [mapping.id for mapping in message.mapping]
        if len(set(mapping_ids)) != len(mapping_ids) or 0 in mapping_ids:
            raise _Invalid("a mapping id is 0 or is used twice")
        # What is added to them has no index that a sample or a mapping could have.
        strings = list(self._strings)
        functions, locations, location_ids = decode_code(
            message.function, message.location, strings, np.array(mapping_ids, np.uint64)
        )
        locks = tuple(_lock(entry) for entry in message.lock)
        rows = decode_samples(message.sample, self._strings, location_ids, len(sample_types), len(locks))
        return Tables(
            strings=strings,
            sample_types=sample_types,
            mappings=tuple(self._mappings()),
            functions=functions,
            locations=locations,
            rows=rows,
            locks=locks,
            recording=self._recording(),
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
    histogram, held_histogram = (_histogram(buckets) for buckets in (message.histogram, message.held_histogram))
    ends = WaitEnds(**{name: getattr(message, name) for name in _ENDS})
    values = {name: getattr(message, name) for name in (*_LOCK_VALUES, *_LOCK_TEXTS)}
    held = HoldTimes(message.holds, message.held_ns, message.held_max_ns, held_histogram)
    counts = (*histogram, message.total_ns, message.max_ns, message.threads, message.unreleased_ns, message.woken_ns)
    counts += (held.count, held.total_ns, held.max_ns, *held_histogram)
    if min(*counts, *(getattr(ends, name) for name in _ENDS)) < 0:
        raise _Invalid("a lock has a count below 0")
    return Lock(
        memory=_MEMORIES[message.memory],
        operation=_OPERATIONS[message.operation],
        ends=ends,
        histogram=histogram,
        held=held if held.count else None,
        **values,
    )


def _histogram(buckets: Sequence[int]) -> tuple[int, ...]:
    """A lock's histogram, with the empty buckets that aren't written. Raises `_Invalid`."""
    if len(buckets) > HISTOGRAM_BUCKETS:
        raise _Invalid(f"a lock's histogram has {len(buckets)} buckets")
    return (*buckets, *((0,) * (HISTOGRAM_BUCKETS - len(buckets))))
