"""A Python program whose CPU time is spent in functions with known names; for `python3 -X perf`.

0 seconds, the default: until SIGTERM. Prints one line of JSON with the true CPU times. Counts its calls of py_spin in
FILE, one row as target.h has them.
"""

import argparse
import contextlib
import json
import mmap
import signal
import sys
import time

CPU_SECONDS = {"py_parse": 0.0, "py_render": 0.0}
SPIN_TURNS = 20_000
ROW_BYTES = 64

done = memoryview(bytearray(ROW_BYTES)).cast("Q")


class Ended(Exception):
    pass


def py_spin() -> int:
    total = 0
    for turn in range(SPIN_TURNS):
        total += turn & 7
    done[0] += 1
    return total


def py_parse() -> None:
    start = time.thread_time()
    py_spin()
    CPU_SECONDS["py_parse"] += time.thread_time() - start


def py_render() -> None:
    start = time.thread_time()
    for _ in range(3):
        py_spin()
    CPU_SECONDS["py_render"] += time.thread_time() - start


def py_serve(seconds: float) -> None:
    end = time.monotonic() + seconds
    while seconds == 0 or time.monotonic() < end:
        py_parse()
        py_render()


def end_now(_signal: int, _frame: object) -> None:
    raise Ended


def counter_row(path: str) -> memoryview:
    with open(path, "w+b") as file:
        file.truncate(ROW_BYTES)
        return memoryview(mmap.mmap(file.fileno(), ROW_BYTES)).cast("Q")


def main() -> None:
    global done
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", type=float, nargs="?", default=0.0)
    parser.add_argument("--counters", metavar="FILE")
    options = parser.parse_args()
    if options.counters:
        done = counter_row(options.counters)
    signal.signal(signal.SIGTERM, end_now)
    signal.signal(signal.SIGINT, end_now)
    print("ready", flush=True)
    with contextlib.suppress(Ended):
        py_serve(options.seconds)
    print(json.dumps({**CPU_SECONDS, "perf": getattr(sys, "is_stack_trampoline_active", lambda: False)()}))


main()
