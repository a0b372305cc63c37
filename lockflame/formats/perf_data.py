"""`perf.data` in, by the `perf script` of this machine."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile

from lockflame.errors import LockflameError
from lockflame.formats.perf_script import read_perf_script
from lockflame.profile import Profile

MAGIC = (b"PERFILE2", b"2ELIFREP")
TIMEOUT_S = 600
_FIELDS = "comm,pid,tid,time,event,period,ip,sym,symoff,dso"
_ERROR_BYTES_MOST = 4096


def read_perf_data(path: str) -> Profile:
    """The profile in a file of `perf record`. Raises `LockflameError` without perf, or when it can't read it."""
    perf = shutil.which("perf")
    if perf is None:
        raise LockflameError(f"cannot read {path}", "there is no perf to read it with", "install perf (linux-perf)")
    with tempfile.TemporaryFile() as errors:
        # -i: never from its standard input; nothing is fetched or asked.
        process = subprocess.Popen(
            [perf, "script", "--force", "-F", _FIELDS, "-i", path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert process.stdout is not None
        try:
            profile = _profile_of(process, path)
            status = process.wait(TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        if profile is None or status:
            errors.seek(0)
            lines = errors.read(_ERROR_BYTES_MOST).decode("utf-8", "replace").split("\n")
            reason = next((line for line in reversed(lines) if line.strip()), "it has no samples with stacks")
            raise LockflameError(f"cannot read {path}", f"perf script: {reason}", "see perf script -i")
    return profile


def _profile_of(process: subprocess.Popen[bytes], path: str) -> Profile | None:
    assert process.stdout is not None
    with contextlib.suppress(LockflameError):
        return read_perf_script(process.stdout, path)
    return None
