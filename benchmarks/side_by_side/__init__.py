"""Lockflame beside what a user would pick instead: the same work, in the same run, round by round."""
