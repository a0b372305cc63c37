"""`python -m lockflame`."""

from lockflame.cli import main

main()
