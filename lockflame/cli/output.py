"""Output files: the suffix tells the format, and a file appears whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from lockflame.errors import LockflameError, reason_of

if TYPE_CHECKING:  # the real one brings numpy along, which `record` can do without until it has recorded
    from flame.lock_views import LockView
    from flame.locks.rules import LockRules
    from lockflame.profile import Profile

SUFFIXES = (".pb.gz", ".svg", ".folded", ".speedscope.json", ".firefox.json.gz")
PICTURES = SUFFIXES[1:]
"""What shows a profile in some view; `.pb.gz` holds all of it."""


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
    """How pictures are drawn, and of what; without `rules` our own are used.

    `view` (by the name of a `ViewName`, else the profile's default), `locks`, `with_idle`, `threads` and `focus` say
    what to show; all but `.pb.gz` files, which hold everything, go by these. Only pictures have names cut short.
    """

    title: str | None = None
    full_names: bool = False
    inverted: bool = False
    rules: LockRules | None = None
    view: str | None = None
    locks: tuple[str, ...] = ()
    with_idle: bool = False
    threads: tuple[str, ...] = ()
    focus: str | None = None


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
    from flame.locks.rule_file import load_rules

    rules = look.rules or load_rules()
    if suffix in (".speedscope.json", ".firefox.json.gz"):
        return _render_parts(profile, suffix, look, rules)
    shown = _shown(profile, look, rules)
    if suffix == ".svg":
        from flame.svg import render_svg

        return render_svg(
            shown.profile,
            rules=rules,
            title=look.title,
            full_names=look.full_names,
            inverted=look.inverted,
            view=shown.name,
            idle_ns=shown.idle_ns,
        ).encode("utf-8")
    from flame.folded import folded_lines

    return "".join(f"{line}\n" for line in folded_lines(shown.profile)).encode("utf-8", "backslashreplace")


def _render_parts(profile: Profile, suffix: str, look: Look, rules: LockRules) -> bytes:
    """The files that hold several views."""
    from lockflame import __version__
    from lockflame.cli.exports import parts_of, without_counts

    parts = parts_of(profile, look, rules)
    exporter = f"Lockflame {__version__}"
    if suffix == ".firefox.json.gz":
        from lockflame.formats.firefox import firefox_json

        return firefox_json(without_counts(parts), profile.recording, exporter)
    from lockflame.formats.speedscope import speedscope_json

    return speedscope_json(parts, look.title or profile.recording.command or exporter, exporter)


def _shown(profile: Profile, look: Look, rules: LockRules) -> LockView:
    """The part of the profile to be shown. Raises `LockflameError` if there is no such part."""
    from flame.filters import focused
    from flame.lock_marks import ViewName
    from flame.lock_views import default_view, only_locks, view_of

    name = ViewName(look.view) if look.view else default_view(profile)
    chosen = only_locks(profile, look.locks) if look.locks else profile
    shown = view_of(chosen, name, rules, with_idle=look.with_idle, threads=look.threads)
    return shown if look.focus is None else replace(shown, profile=focused(shown.profile, look.focus))


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
