"""How tools of others are started that need tracefs at its usual place."""

from __future__ import annotations

MOUNT_TRACEFS = (
    'mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing || exit 99; exec "$@"'
)
"""For sh, in a mount namespace of its own: nothing stays behind."""
WITH_TRACEFS = ("unshare", "--mount", "sh", "-c", MOUNT_TRACEFS, "sh")
"""In front of a command line."""
