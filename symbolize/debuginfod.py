"""Debug files from debuginfod servers, by build-id: GET URL/buildid/BUILDID/debuginfo (debuginfod(8), "WEBAPI").

Only for who asks for it: nothing here runs, and nothing is sent, without `--debuginfod` and `DEBUGINFOD_URLS`.
What a server sends is kept when it is an ELF file of that build-id and whole. Whatever fails is a note.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lockflame.cache_folder import CacheFolder, open_trusted, user_cache
from lockflame.errors import LockflameError, reason_of

if TYPE_CHECKING:
    from symbolize.download import KeepGoing, Limits

FORMAT = 1
FOLDER_BYTES_MOST = 2 << 30
# The defaults of elfutils' client (debuginfod-client-config(7)) where it has some.
TIMEOUT_S = 90.0
TIMEOUT_MOST_S = 3600.0
TIME_MOST_S = 3600.0
BYTES_MOST = 4 << 30
ROOM_LEFT_BYTES = 64 << 20
FAILURES_MOST = 3
NAMES_MOST = 5
_BUILD_ID = re.compile(r"(?:[0-9a-f]{2}){4,64}")
_IMA_POLICY = "ima:"
_IMA_ENFORCING = "ima:enforcing"

Watch = Callable[[str, str], "AbstractContextManager[KeepGoing]"]
"""Called with a program's name and a server's URL for each question asked; the context lasts as long as it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Whom to ask, how long, and where to keep what comes. `unusable`: words of DEBUGINFOD_URLS not made use of."""

    urls: tuple[str, ...]
    unusable: tuple[str, ...]
    folder: Path
    foreign_folder: Path
    """The cache of elfutils' client, which GDB uses: looked into, never written to."""
    timeout_s: float = TIMEOUT_S
    time_most_s: float = TIME_MOST_S
    bytes_most: int = BYTES_MOST


def settings_of(environment: Mapping[str, str]) -> Settings:
    """What the variables say that elfutils' client goes by. Raises `LockflameError` for numbers that are none."""
    urls, unusable = _split_urls(environment.get("DEBUGINFOD_URLS", ""))
    caches = Path(environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return Settings(
        urls=urls,
        unusable=unusable,
        folder=user_cache(f"debuginfod-{FORMAT}"),
        foreign_folder=Path(environment.get("DEBUGINFOD_CACHE_PATH") or caches / "debuginfod_client"),
        timeout_s=min(_number(environment, "DEBUGINFOD_TIMEOUT", TIMEOUT_S, TIMEOUT_MOST_S), TIMEOUT_MOST_S),
        time_most_s=_number(environment, "DEBUGINFOD_MAXTIME", TIME_MOST_S, TIME_MOST_S),
        bytes_most=int(_number(environment, "DEBUGINFOD_MAXSIZE", BYTES_MOST, BYTES_MOST)),
    )


def _number(environment: Mapping[str, str], name: str, default: float, without_bound: float) -> float:
    """A variable's value; zero and less say "without a bound", which we don't do."""
    text = environment.get(name, "")
    if not text.strip():
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise LockflameError(f"cannot use {name}", "it is not a number", f"unset it, or set it to {default:g}")
    return number if number > 0 else without_bound


def _split_urls(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The addresses that can be asked, and the rest.

    "ima:enforcing" wants a signature checked for all addresses behind it, which isn't done here.
    """
    urls: list[str] = []
    unusable: list[str] = []
    is_enforcing = False
    for word in text.split():
        if word.startswith(_IMA_POLICY):
            is_enforcing = word == _IMA_ENFORCING
            continue
        scheme, _, rest = word.partition("://")
        host = rest.partition("/")[0]
        # A password in an address would be shown wherever the address is.
        is_fit = scheme.lower() in ("http", "https") and host and "@" not in host and not is_enforcing
        (urls if is_fit else unusable).append(word.rstrip("/") if "@" not in word else f"{scheme}://...")
    return tuple(dict.fromkeys(urls)), tuple(unusable)


class _Server:
    """One address, and what came of asking it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.failures: Counter[str] = Counter()
        self.given_up = ""
        """Why it isn't asked any more."""
        self.files = 0
        self.bytes = 0
        self._failures_in_row = 0

    def has_sent(self, size: int) -> None:
        self.files += 1
        self.bytes += size
        self._failures_in_row = 0

    def has_failed(self, reason: str, is_silent: bool) -> None:
        self.failures[reason] += 1
        self._failures_in_row += 1
        if is_silent or self._failures_in_row >= FAILURES_MOST:
            self.given_up = reason

    def notes(self) -> Iterable[str]:
        if self.files:
            yield f"debuginfod {self.url}: {_files(self.files)} of {self.bytes / 1e6:,.1f} MB downloaded."
        for reason, count in self.failures.items():
            ending = "; it was given up" if reason == self.given_up else ""
            yield f"debuginfod {self.url}: {_files(count)} couldn't be fetched ({reason}{ending})."


class Debuginfod:
    """Finds debug files: in its own cache, in that of elfutils' client, then at each server in turn."""

    def __init__(self, settings: Settings, watch: Watch) -> None:
        self._settings = settings
        self._watch = watch
        self._servers = [_Server(url) for url in settings.urls]
        self._folder = CacheFolder(settings.folder)
        self._known: dict[str, Path | None] = {}
        self._nowhere: list[str] = []
        self._skipped = 0
        self._is_interrupted = False
        self._damaged = 0
        self._folder_problem = ""
        self._unnamed = ExitStack()

    def __enter__(self) -> Debuginfod:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the files that no cache could keep; their paths are no longer good."""
        self._unnamed.close()

    def find(self, build_id: str, name: str) -> Path | None:
        """The debug file of the program `name` (or its path) with this build-id (lower-case hexadecimal), or None.

        Each build-id is asked for once. After an interruption no server is asked again.
        """
        if not _BUILD_ID.fullmatch(build_id):
            return None
        if build_id not in self._known:
            self._known[build_id] = (
                self._of_own_cache(build_id)
                or self._of_foreign_cache(build_id)
                or self._of_servers(build_id, os.path.basename(name))
            )
        return self._known[build_id]

    def notes(self) -> Iterable[str]:
        """What a user should know of it, in whole sentences."""
        for word in self._settings.unusable:
            yield f"{word} in DEBUGINFOD_URLS was not asked: only http and https, without password or signatures."
        for server in self._servers:
            yield from server.notes()
        if self._nowhere:
            more = ", ..." if len(self._nowhere) > NAMES_MOST else ""
            names = ", ".join(self._nowhere[:NAMES_MOST])
            yield f"No debuginfod server has the debug info of {_files(len(self._nowhere))}: {names}{more}."
        if self._is_interrupted:
            yield f"The downloads were interrupted: {_files(self._skipped)} of debug info were not fetched."
        if self._damaged:
            yield f"Damaged and left out: {_files(self._damaged)} in {self._settings.folder}."
        if self._folder_problem:
            yield f"Downloads couldn't be kept in {self._settings.folder} ({self._folder_problem})."

    def _of_own_cache(self, build_id: str) -> Path | None:
        file = self._folder.open(build_id)
        if file is None:
            return None
        with file:
            if _problem_of(file, build_id):
                self._damaged += 1
                return None
        self._folder.touch(build_id)
        return self._folder.path / build_id

    def _of_foreign_cache(self, build_id: str) -> Path | None:
        path = self._settings.foreign_folder / build_id / "debuginfo"
        file = open_trusted(path, (os.geteuid(), 0))
        if file is None:
            return None
        with file:
            return None if _problem_of(file, build_id) else path

    def _of_servers(self, build_id: str, name: str) -> Path | None:
        from symbolize.download import DownloadFailed, Interrupted, NotThere

        answers = 0
        for server in self._servers:
            if self._is_interrupted:
                break
            if server.given_up:
                server.failures[server.given_up] += 1
                continue
            try:
                return self._download(server, build_id, name)
            except NotThere:
                answers += 1
            except DownloadFailed as failure:
                server.has_failed(str(failure), failure.is_silent)
            except OSError as error:
                server.has_failed(f"it can't be written: {reason_of(error)}", is_silent=False)
            except Interrupted:
                self._is_interrupted = True
        if self._is_interrupted:
            self._skipped += 1
        elif answers == len(self._servers):
            self._nowhere.append(name)
        return None

    def _download(self, server: _Server, build_id: str, name: str) -> Path:
        from symbolize.download import DownloadFailed, Limits, download

        settings = self._settings
        limits = Limits(settings.timeout_s, settings.time_most_s, settings.bytes_most)
        with self._new_file(build_id) as (file, path):
            with self._watch(name, server.url) as keep_going:
                url = f"{server.url}/buildid/{build_id}/debuginfo"
                size = download(url, file, _within_room(file, limits), keep_going)
            file.flush()
            if problem := _problem_of(file, build_id):
                raise DownloadFailed(problem)
        server.has_sent(size)
        self._prune(build_id)
        return path

    @contextmanager
    def _new_file(self, build_id: str) -> Generator[tuple[IO[bytes], Path]]:
        """A file of the cache or, where that can't be written, one without a name, which lasts as long as we."""
        with ExitStack() as stack:
            try:
                file = stack.enter_context(self._folder.writing(build_id))
            except OSError as error:
                self._folder_problem = reason_of(error)
                file = stack.enter_context(tempfile.TemporaryFile())
                yield file, Path(f"/proc/self/fd/{file.fileno()}")
                self._unnamed.push(stack.pop_all())
            else:
                yield file, self._folder.path / build_id

    def _prune(self, newest: str) -> None:
        keep = {newest, *(build_id for build_id, path in self._known.items() if path is not None)}
        # A folder that can't even be made has been noted.
        with suppress(OSError):
            self._folder.prune(FOLDER_BYTES_MOST, keep)


def _within_room(file: IO[bytes], limits: Limits) -> Limits:
    """Downloads leave some room on the disk."""
    from symbolize.download import DownloadFailed, Limits

    disk = os.fstatvfs(file.fileno())
    room = disk.f_bavail * disk.f_frsize - ROOM_LEFT_BYTES
    if room <= 0:
        raise DownloadFailed("no room on the disk")
    return Limits(limits.timeout_s, limits.time_most_s, min(limits.bytes_most, room))


def _problem_of(file: IO[bytes], build_id: str) -> str:
    """Why a file isn't the debug file with this build-id; nothing where it is."""
    from symbolize.elf import ElfImage, ElfProblem

    try:
        image = ElfImage(file)
    except (OSError, ElfProblem) as problem:
        return f"rubbish: {problem}"
    if image.build_id != build_id:
        return "the file has another build-id"
    size = os.fstat(file.fileno()).st_size
    if any(section.has_bytes and section.file_offset + section.size > size for section in image.sections.values()):
        return "the file is cut off"
    return ""


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"
