"""What the files in a tool's folder are called."""

SAID = "stdout.txt"
"""Its standard output."""
COMPLAINED = "stderr.txt"
PICTURE = "picture.svg"
PROFILE = "profile.pb.gz"
PERF_DATA = "perf.data"
