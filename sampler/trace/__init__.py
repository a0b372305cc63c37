"""Exact tracers: programs in the kernel that count each event of a kind, or tell of it."""
