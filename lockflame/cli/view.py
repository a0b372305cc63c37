"""`lockflame view`: a profile in the terminal, by flameshow.

flameshow (https://github.com/laixintao/flameshow) is a program of its own: it needs older versions of what Lockflame
needs (protobuf below 5, rich below 14), so the two can't share an environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

import click

from lockflame.cli.flame import VIEWS
from lockflame.cli.output import Look, Output, write_profile
from lockflame.cli.reading import read_told
from lockflame.cli.terminal import printable
from lockflame.errors import LockflameError

VIEWER = "flameshow"
INSTALL = "pipx install flameshow"
# With four bytes for each and the suffix still a file name.
NAME_CHARACTERS_MOST = 50


@click.command("view")
@click.argument("profile", type=click.Path())
@click.option(
    "--view",
    "view_name",
    type=click.Choice(VIEWS),
    help="What to show. [default: chain, waiters with the holders on top, if there are lock waits; else cpu]",
)
@click.option("--idle", is_flag=True, help="Idle waits too: threads that wait for work or for time to pass.")
def view_command(profile: str, view_name: str | None, idle: bool) -> None:
    """Look at a PROFILE file, ours or another tool's, in the terminal.

    Uses flameshow, which is installed beside Lockflame, not into it: pipx install flameshow. Locks are frames of their
    own in square brackets, as in pictures of flame.

    \b
    Examples:
      lockflame view before.pb.gz
      lockflame view before.pb.gz --view cpu
    """
    viewer = shutil.which(VIEWER)
    if viewer is None:
        raise LockflameError(f"cannot show {profile}", f"{VIEWER} is not installed", f"install it: {INSTALL}")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        # It would wait for keys for ever.
        raise LockflameError(f"cannot show {profile}", "there is no terminal to show it in", "draw it: lockflame flame")
    (recorded,) = read_told((profile,))
    chosen = view_name or ("chain" if recorded.locks else "cpu")
    with tempfile.TemporaryDirectory(prefix="lockflame-") as folder:
        # The viewer shows the file's name.
        name = printable(os.path.basename(profile))[:NAME_CHARACTERS_MOST] or "profile"
        path = os.path.join(folder, f"{name}.speedscope.json")
        write_profile(recorded, Output(path, ".speedscope.json"), Look(view=chosen, with_idle=idle))
        status = subprocess.run([viewer, path], check=False).returncode
    if status:
        raise LockflameError(f"cannot show {profile}", f"{VIEWER} ended with status {status}", "see what it said above")
