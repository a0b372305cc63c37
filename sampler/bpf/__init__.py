"""Programs that run in the kernel: compiled once by BCC, loaded and attached by our own system calls."""
