"""What of a profile goes into files of other tools: its pictures, one after the other."""

from __future__ import annotations

from flame.filters import focused
from flame.lock_marks import ViewName
from flame.lock_views import default_view, only_locks, view_of
from flame.locks.rules import LockRules
from lockflame.cli.output import Look
from lockflame.errors import LockflameError
from lockflame.formats.parts import Part
from lockflame.profile import CPU, Profile

_TITLES = {
    ViewName.CPU: "CPU time",
    ViewName.WAIT: "lock waits",
    ViewName.HOLDER: "lock holders",
    ViewName.CHAIN: "waiters and holders",
}


def parts_of(profile: Profile, look: Look, rules: LockRules) -> list[Part]:
    """The parts of a file: one for each sample type with weights of each view that `look` asks for.

    Without a view asked for, CPU time, lock waits and holders, as far as the profile has them. Raises `LockflameError`
    if there is nothing to show.
    """
    parts: list[Part] = []
    errors: list[LockflameError] = []
    for name in _views(profile, look):
        try:
            chosen = only_locks(profile, look.locks) if look.locks else profile
            shown = view_of(chosen, name, rules, with_idle=look.with_idle, threads=look.threads).profile
            parts.extend(_parts(name, shown if look.focus is None else focused(shown, look.focus)))
        except LockflameError as error:
            errors.append(error)
    if not parts and errors:
        raise errors[0]
    return parts or [Part(_TITLES[ViewName.CPU], profile, profile.sample_types[0])]


def _views(profile: Profile, look: Look) -> list[ViewName]:
    if look.view:
        return [ViewName(look.view)]
    if not profile.locks:
        return [default_view(profile)]
    waits = [ViewName.WAIT, ViewName.HOLDER]
    return waits if look.locks or not profile.total(CPU) else [ViewName.CPU, *waits]


def _parts(name: ViewName, profile: Profile) -> list[Part]:
    """CPU time goes before the number of its samples; what is no time of ours goes by its own name."""
    first = [kind for kind in profile.sample_types if kind == CPU]
    others = [kind for kind in profile.sample_types if kind != CPU]
    parts: list[Part] = []
    for kind in (*first, *others):
        if profile.total(kind):
            is_own = name is not ViewName.CPU or kind == CPU
            title = _TITLES[name] if is_own else kind.name
            parts.append(Part(title if all(part.title != title for part in parts) else kind.name, profile, kind))
    return parts


def without_counts(parts: list[Part]) -> list[Part]:
    """The parts without numbers of what another part of the same view gives the time or size of."""
    firsts = {id(part.profile): part for part in reversed(parts)}
    return [part for part in parts if part is firsts[id(part.profile)] or part.sample_type.unit != "count"]
