"""Side by side with the peers: what a recording costs, and how good it is. See `python -m benchmarks --help`."""
