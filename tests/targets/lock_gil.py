"""A Python program whose threads fight for the interpreter's lock (the GIL), each in functions with known names.

usage: lock_gil.py [--seconds S] [--threads N]     0 seconds, the default: until SIGTERM

Prints `ready` when the threads run, and at the end one line of JSON with the turns of each function.
"""

import argparse
import hashlib
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable

ENDING = threading.Event()


def parse_rows(rows: int) -> int:
    total = 0
    for row in range(rows):
        total += row & 7
    return total


def render_page(rows: int) -> int:
    return len("".join(str(row) for row in range(rows // 8)))


def sum_blocks(rows: int) -> int:
    digest = hashlib.sha256()
    for row in range(rows // 8):
        digest.update(row.to_bytes(8, "little"))
    return digest.digest()[0]


FUNCTIONS = (parse_rows, render_page, sum_blocks)


def serve(function: Callable[[int], int], turns: Counter[str]) -> None:
    while not ENDING.is_set():
        function(20_000)
        turns[function.__name__] += 1


def wait_for_end(seconds: float) -> None:
    ends = {signal.SIGTERM, signal.SIGINT}
    if seconds > 0:
        signal.sigtimedwait(ends, seconds)
    else:
        signal.sigwait(ends)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    turns = [Counter[str]() for _ in range(options.threads)]
    threads = [
        threading.Thread(target=serve, args=(FUNCTIONS[number % len(FUNCTIONS)], turns[number]))
        for number in range(options.threads)
    ]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    wait_for_end(options.seconds)
    ENDING.set()
    for thread in threads:
        thread.join()
    elapsed = time.monotonic() - start
    print(json.dumps({"threads": options.threads, "seconds": elapsed, "turns": sum(turns, Counter())}))


main()
