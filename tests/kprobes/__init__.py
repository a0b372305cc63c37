"""Runs a command of this project on Debian's own kernel, in QEMU: not every machine's kernel has kprobes."""
