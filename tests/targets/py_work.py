"""A Python program whose CPU time is spent in functions with known names; for `python3 -X perf`.

usage: py_work.py [SECONDS]     0, the default: until SIGTERM. Prints one line of JSON with the true CPU times.
"""

import contextlib
import json
import signal
import sys
import time

CPU_SECONDS = {"py_parse": 0.0, "py_render": 0.0}


class Ended(Exception):
    pass


def py_spin(turns: int) -> int:
    total = 0
    for turn in range(turns):
        total += turn & 7
    return total


def py_parse() -> None:
    start = time.thread_time()
    py_spin(20_000)
    CPU_SECONDS["py_parse"] += time.thread_time() - start


def py_render() -> None:
    start = time.thread_time()
    py_spin(60_000)
    CPU_SECONDS["py_render"] += time.thread_time() - start


def py_serve(seconds: float) -> None:
    end = time.monotonic() + seconds
    while seconds == 0 or time.monotonic() < end:
        py_parse()
        py_render()


def end_now(_signal: int, _frame: object) -> None:
    raise Ended


def main() -> None:
    signal.signal(signal.SIGTERM, end_now)
    signal.signal(signal.SIGINT, end_now)
    print("ready", flush=True)
    with contextlib.suppress(Ended):
        py_serve(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0)
    print(json.dumps({**CPU_SECONDS, "perf": getattr(sys, "is_stack_trampoline_active", lambda: False)()}))


main()
