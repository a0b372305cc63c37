"""Where things are in the repo."""

from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
TARGETS = REPO / "tests" / "targets"
BUILD = REPO / "build"
