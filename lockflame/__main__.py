"""The program's start: `lockflame`, and `python -m lockflame`."""

import signal

# Until `run` takes over, a Ctrl-C ends us without a traceback out of the middle of some import.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from lockflame.cli import main

if __name__ == "__main__":
    main()
