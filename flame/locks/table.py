"""The lock sites of a profile as rows of a table and as JSON objects, in the order that was asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from flame.locks.sites import LockSite

COLUMNS = (
    "site",
    "path",
    "line",
    "address",
    "module",
    "user_caller",
    "kind",
    "contended_cpu_ns",
    "locking_cpu_ns",
    "samples",
    "share",
    "share_low",
    "share_high",
    "threads",
)
"""The keys of a JSON object, and what rows can be sorted by."""

_ASCENDING = frozenset({"site", "path", "line", "address", "module", "user_caller", "kind"})


def sorted_sites(sites: Sequence[LockSite], column: str) -> list[LockSite]:
    """The sites by one of `COLUMNS`: texts and places ascending, amounts largest first, ties in the order given."""
    return sorted(sites, key=lambda site: getattr(site, column), reverse=column not in _ASCENDING)


def json_row(site: LockSite) -> dict[str, Any]:
    """A site as a JSON object. The address is hexadecimal text: JSON's numbers are too small for it in many readers."""
    row = dataclasses.asdict(site)
    return {column: row[column] for column in COLUMNS} | {"address": f"0x{site.address:x}"}


def place_of(site: LockSite) -> str:
    """Where a site is: `sql_class.cc:1234`, else `mariadbd+0x1f2c`, else the address alone."""
    if site.path and site.line:
        return f"{site.path.rpartition('/')[2]}:{site.line}"
    return f"{site.module}+0x{site.address:x}" if site.module else f"0x{site.address:x}"
