"""Lock waits, by probes on the futex system calls."""
