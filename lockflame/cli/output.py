"""Output files: the suffix tells the format, and a file appears whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from lockflame.errors import LockflameError, reason_of

if TYPE_CHECKING:  # the real one brings numpy along, which `record` can do without until it has recorded
    from flame.locks.rules import LockRules
    from lockflame.profile import Profile

SUFFIXES = (".pb.gz", ".svg", ".folded")


@dataclass(frozen=True, slots=True)
class Output:
    """Where to write a profile, and as what."""

    path: str
    suffix: str


class OutputType(click.ParamType[Output]):
    """A path whose suffix names a format that `suffixes` lists."""

    name = "path"

    def __init__(self, suffixes: tuple[str, ...] = SUFFIXES) -> None:
        self._suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Output:
        """Takes the path apart; a suffix that isn't known is wrong usage."""
        for suffix in self._suffixes:
            if str(value).endswith(suffix):
                return Output(str(value), suffix)
        return self.fail(f"{value!r} has none of the suffixes {', '.join(self._suffixes)}", param, ctx)


def check_writable(path: str) -> None:
    """Makes sure that `path` can be written, before any work is done for it. Raises `LockflameError`."""
    try:
        if not _is_special(path):
            descriptor, trial = tempfile.mkstemp(prefix=".lockflame-", dir=_folder(path))
            os.close(descriptor)
            os.unlink(trial)
    except OSError as error:
        raise _cannot_write(path, error) from error


@dataclass(frozen=True, slots=True)
class Look:
    """How pictures are drawn; other files have whole names and all stacks. Without `rules` our own are used."""

    title: str | None = None
    full_names: bool = False
    inverted: bool = False
    rules: LockRules | None = None


def write_profile(profile: Profile, output: Output, look: Look | None = None) -> None:
    """Writes a profile in the output's format. Raises `LockflameError`."""
    write_file(output.path, render(profile, output.suffix, look or Look()))


def write_profiles(profile: Profile, outputs: Iterable[Output], *, full_names: bool = False) -> None:
    """Writes all that can be written. Raises the first `LockflameError` afterwards."""
    errors: list[LockflameError] = []
    for output in outputs:
        try:
            write_profile(profile, output, Look(full_names=full_names))
        except LockflameError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def render(profile: Profile, suffix: str, look: Look) -> bytes:
    """The content of a file with this suffix."""
    if suffix == ".pb.gz":
        from lockflame.pprof import encode

        return encode(profile)
    if suffix == ".svg":
        from flame.svg import render_svg

        return render_svg(
            profile,
            rules=look.rules,
            title=look.title,
            full_names=look.full_names,
            inverted=look.inverted,
        ).encode("utf-8")
    from flame.folded import folded_lines

    return "".join(f"{line}\n" for line in folded_lines(profile)).encode("utf-8", "backslashreplace")


def write_file(path: str, content: bytes) -> None:
    """Writes a file beside and renames it, readable by its owner only. Raises `LockflameError`."""
    try:
        if _is_special(path):
            with open(path, "wb") as file:
                file.write(content)
            return
        # A symbolic link stays one; the file that it leads to is replaced.
        target = os.path.realpath(path)
        # mkstemp makes files that only their owner can read: a profile tells much about a machine.
        descriptor, beside = tempfile.mkstemp(prefix=".lockflame-", dir=_folder(path))
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
            os.replace(beside, target)
        except BaseException:
            os.unlink(beside)
            raise
    except OSError as error:
        raise _cannot_write(path, error) from error


def _folder(path: str) -> str:
    return os.path.dirname(os.path.realpath(path))


def _is_special(path: str) -> bool:
    """Whether `path` is a device or a pipe, which must never be replaced by a file.

    Raises `OSError` for a folder.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, os.strerror(21))
    return not stat.S_ISREG(mode)


def _cannot_write(path: str, error: OSError) -> LockflameError:
    return LockflameError(
        f"cannot write {path}", reason_of(error), "give a path in a folder that exists, may be written to and has room"
    )
