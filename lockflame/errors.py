"""The errors that a user sees as one line."""

from __future__ import annotations


class LockflameError(Exception):
    """Something a user can act on: what failed, why, and what to do.

    The command line prints it as `lockflame: error: WHAT. WHY. WHAT TO DO.` and exits with status 1.
    """

    def __init__(self, what: str, why: str, what_to_do: str = "") -> None:
        super().__init__(what, why, what_to_do)
        self.what = what
        self.why = why
        self.what_to_do = what_to_do

    def __str__(self) -> str:
        parts = [" ".join(part.split()).rstrip(".") for part in (self.what, self.why, self.what_to_do)]
        what, *rest = [part for part in parts if part]
        return " ".join([f"{what}.", *(f"{part[0].upper()}{part[1:]}." for part in rest)])


def reason_of(error: OSError) -> str:
    """The system's own words for an `OSError`, without the path and the number around them."""
    return error.strerror or str(error)
