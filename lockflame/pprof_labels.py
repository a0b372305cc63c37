"""The labels of a pprof file's samples: who was sampled, and what else other tools say of a sample.

Labels that are the same bytes are read once, and written once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lockflame.distinct_rows import DistinctRows
from lockflame.profile import Label, Lock, Thread
from lockflame.wire import BYTES, VARINT, Fields, WireError, last_value, ranges, read_fields, varint

LABEL = 3
"""The field of a sample (profile.proto)."""
LABEL_FIELDS_MOST = 256
LABELS_MOST = 1 << 18
"""Of all different sets of other tools' labels together; some tools label each sample with its time."""

_KEY, _STR, _NUM, _NUM_UNIT = 1, 2, 3, 4
_WIDTH = 4
"""Of a label as numbers: its four fields; and of a thread: `_OWN`."""
_NUMBER_LABELS = ("pid", "tid")
_TEXT_LABELS = ("thread", "container")
_OWN = (*_NUMBER_LABELS, *_TEXT_LABELS)
_LOCK_LABELS = ("lock", "lock_address", "lock_kind")
# The field's key and the length, which tell where the first label begins.
_HEAD_BYTES = 2

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """`thread` int32[samples] indexes `threads`. Of `unlabelled` samples, the labels of other tools were too many."""

    thread: NDArray[np.int32]
    threads: tuple[Thread, ...]
    unlabelled: int


def read_labels(
    data: NDArray[np.uint8], labels: Fields, has_lock: NDArray[np.bool_], strings: Sequence[str]
) -> Labelled:
    """What these fields say of each sample. Those that say which lock it has, if it `has_lock`, aren't needed.

    Raises `WireError` for a text that isn't in `strings`.
    """
    which, chosen = _labelled_alike(data, labels, len(has_lock))
    group = np.full(len(has_lock), -1, np.int64)
    group[chosen] = np.arange(len(chosen))
    labels = labels.rows(np.flatnonzero(group[labels.owner] >= 0))
    owner = group[labels.owner]
    columns = _columns(data, labels, strings)
    threads, is_used = _own_labels(columns, owner, len(chosen), strings)
    is_used |= _has_key(columns, _LOCK_LABELS, strings) & has_lock[chosen][owner]
    rows = DistinctRows(np.int64)
    number = rows.add(*_rows(threads, columns[~is_used], owner[~is_used]))
    found, is_cut = _threads(*rows.columns(), strings)
    place_of = {thread: index for index, thread in enumerate(dict.fromkeys(found))}
    place = np.array([place_of[thread] for thread in found], np.int32)
    return Labelled(place[number[which]], tuple(place_of), int(np.count_nonzero(is_cut[number[which]])))


def _labelled_alike(data: NDArray[np.uint8], labels: Fields, count: int) -> tuple[Ints, Ints]:
    """Samples whose labels are the same bytes: the group of each, and one sample of each group."""
    start, end = np.full((2, count), _HEAD_BYTES, np.int64)
    # The last assignment stays: of the first label its start, of the last its end.
    start[labels.owner[::-1]] = labels.start[::-1]
    end[labels.owner] = labels.end
    content = data.tobytes()
    starts: list[int] = (start - _HEAD_BYTES).tolist()
    ends: list[int] = np.where(end > _HEAD_BYTES, end, 0).tolist()
    groups: dict[bytes, int] = {}
    which = [groups.setdefault(content[a:b], len(groups)) for a, b in zip(starts, ends, strict=True)]
    found = np.array(which, np.int64)
    chosen = np.zeros(len(groups), np.int64)
    chosen[found] = np.arange(count)
    return found, chosen


def _columns(data: NDArray[np.uint8], labels: Fields, strings: Sequence[str]) -> Ints:
    """Key, text, number and unit of each label, int64[labels, 4]. Raises `WireError`."""
    parts = read_fields(data, labels.start, labels.end, LABEL_FIELDS_MOST)
    columns = np.stack([last_value(parts, field, len(labels.owner)) for field in (_KEY, _STR, _NUM, _NUM_UNIT)], axis=1)
    texts = columns[:, [0, 1, 3]]
    if texts.size and not 0 <= int(texts.min()) <= int(texts.max()) < len(strings):
        raise WireError("a label's string is not in its string table")
    return columns


def _has_key(columns: Ints, names: Sequence[str], strings: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each label has one of these names. A string table may hold a name more than once."""
    keys: list[int] = np.unique(columns[:, 0]).tolist()
    return np.isin(columns[:, 0], np.array([key for key in keys if strings[key] in names], np.int64))


def _own_labels(columns: Ints, owner: Ints, groups: int, strings: Sequence[str]) -> tuple[Ints, NDArray[np.bool_]]:
    """The values of the labels `_OWN` of each group, int64[groups, 4], and whether each label is one of them.

    Texts are indices. The last of a name is taken; other tools may use the same name for a value of the other type.
    """
    values = np.zeros((groups, len(_OWN)), np.int64)
    is_used = np.zeros(len(columns), np.bool_)
    text, number = columns[:, 1], columns[:, 2]
    for place, name in enumerate(_OWN):
        is_text = name in _TEXT_LABELS
        is_of_type = ((text != 0) == is_text) | ((text == 0) & (number == 0))
        rows = np.flatnonzero(_has_key(columns, (name,), strings) & is_of_type)
        last = np.full(groups, -1, np.int64)
        last[owner[rows]] = rows
        last_rows = last[last >= 0]
        values[last >= 0, place] = (text if is_text else number)[last_rows]
        is_used[last_rows] = True
    return values, is_used


def _rows(threads: Ints, labels: Ints, owner: Ints) -> tuple[Ints, Ints]:
    """Each group as a row: its thread's values, and its labels in one order whatever the file's is; and the bounds."""
    lengths = _WIDTH * np.bincount(owner, minlength=len(threads))
    bounds = np.concatenate((np.zeros(1, np.int64), np.cumsum(_WIDTH + lengths)))
    values = np.zeros(int(bounds[-1]), np.int64)
    values[ranges(bounds[:-1], np.full(len(threads), _WIDTH))] = threads.reshape(-1)
    order = np.lexsort((*labels.T, owner))
    values[ranges(bounds[:-1] + _WIDTH, lengths)] = labels[order].reshape(-1)
    return values, bounds


def _threads(values: Ints, bounds: Ints, strings: Sequence[str]) -> tuple[list[Thread], NDArray[np.bool_]]:
    """The thread of each such row, and whether its labels are beyond `LABELS_MOST` and left out."""
    counts = np.diff(bounds) // _WIDTH - 1
    is_cut = (np.cumsum(counts) > LABELS_MOST) & (counts > 0)
    threads: list[Thread] = []
    own: list[list[int]] = values[ranges(bounds[:-1], np.full(len(counts), _WIDTH))].reshape(-1, _WIDTH).tolist()
    firsts: list[int] = bounds[:-1].tolist()
    kept: list[int] = np.where(is_cut, 0, counts).tolist()
    for first, count, (pid, tid, comm, container) in zip(firsts, kept, own, strict=True):
        labels: tuple[Label, ...] = ()
        if count:
            rows: list[list[int]] = values[first + _WIDTH : first + _WIDTH * (1 + count)].reshape(-1, _WIDTH).tolist()
            labels = tuple(
                sorted(Label(strings[key], strings[text], number, strings[unit]) for key, text, number, unit in rows)
            )
        threads.append(Thread(pid, tid, strings[comm], strings[container], labels))
    return threads, is_cut


def thread_fields(thread: Thread, string: Callable[[str], int]) -> bytes:
    """The labels of a thread's samples as fields of a sample. `string` gives a text's index in the string table."""
    labels = [
        _field(string(label.key), string(label.text), label.number, string(label.unit)) for label in thread.labels
    ]
    labels += [_field(string(name), 0, value) for name, value in (("pid", thread.pid), ("tid", thread.tid))]
    labels += [
        _field(string(name), string(text), 0)
        for name, text in (("thread", thread.comm), ("container", thread.container))
        if text
    ]
    return b"".join(labels)


def lock_fields(lock: Lock, string: Callable[[str], int]) -> bytes:
    """The labels that tell other tools a lock, likewise."""
    values = ((string(lock.name), 0), (0, lock.address), (string(lock.kind), 0))
    return b"".join(
        _field(string(name), text, number) for name, (text, number) in zip(_LOCK_LABELS, values, strict=True)
    )


def _field(key: int, text: int, number: int, unit: int = 0) -> bytes:
    """A label's number has a sign (profile.proto), which 64 bits hold as they are."""
    parts = ((_KEY, key), (_STR, text), (_NUM, number % (1 << 64)), (_NUM_UNIT, unit))
    content = b"".join(varint(field << 3 | VARINT) + varint(value) for field, value in parts if value)
    return varint(LABEL << 3 | BYTES) + varint(len(content)) + content
