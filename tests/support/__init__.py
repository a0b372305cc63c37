"""What tests and benchmarks share: targets to profile, real servers under load, Lockflame's command."""
