"""One file by HTTP, from a server that isn't trusted: bounded in time and size, and to be interrupted at any moment.

The network is left to a thread: neither the lookup of a host's name nor a server that sends its headers
byte by byte can be interrupted or bounded in time otherwise.
"""

from __future__ import annotations

import http.client
import queue
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, cast

from lockflame import __version__
from lockflame.errors import reason_of

CONNECT_TIMEOUT_S = 10.0
# As elfutils' client has it (debuginfod-client-config(7), DEBUGINFOD_TIMEOUT).
LEAST_BYTES = 100 << 10
PIECE_BYTES = 1 << 18
PIECES_WAITING = 4
LOOK_S = 0.1
REDIRECTS_MOST = 5
REDIRECTS = (301, 302, 303, 307, 308)
NOT_FOUND = 404
# What debuginfod(8) answers for a file larger than the X-DEBUGINFOD-MAXSIZE that we send.
TOO_LARGE = 406

KeepGoing = Callable[[int, int | None], bool]
"""Called with the bytes so far and in all (None: not known) ten times a second and at the end; False ends all."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`timeout_s`: the longest in which no 100 KB arrive. `time_most_s` and `bytes_most`: of a whole download."""

    timeout_s: float
    time_most_s: float
    bytes_most: int


class DownloadFailed(Exception):
    """Why there is no file. `is_silent`: the server doesn't answer, and would not answer other questions either."""

    def __init__(self, reason: str, is_silent: bool = False) -> None:
        super().__init__(reason)
        self.is_silent = is_silent


class NotThere(DownloadFailed):
    """The server hasn't got the file."""


class Interrupted(Exception):
    """Somebody wanted the download to end."""


def download(url: str, file: IO[bytes], limits: Limits, keep_going: KeepGoing) -> int:
    """Writes what is at `url` to `file` and returns its size in bytes.

    Raises `DownloadFailed`, `Interrupted`, and `OSError` when `file` can't be written to.
    """
    start = window_start = next_look = time.monotonic()
    received = window_received = 0
    with _fetching(url, limits) as fetching:
        while True:
            piece = fetching.next_piece()
            if piece:
                file.write(piece)
                received += len(piece)
            if received > limits.bytes_most or (fetching.total or 0) > limits.bytes_most:
                raise DownloadFailed(_too_large(limits))
            now = time.monotonic()
            if piece == b"" or now >= next_look:
                next_look = now + LOOK_S
                if not keep_going(received, fetching.total):
                    raise Interrupted
            if piece == b"":
                return received
            if now - window_start > limits.timeout_s:
                if received - window_received < LEAST_BYTES:
                    raise DownloadFailed(_stalled(received, limits.timeout_s), is_silent=True)
                window_start, window_received = now, received
            if now - start > limits.time_most_s:
                raise DownloadFailed(f"not complete after {limits.time_most_s:g} s")


def _too_large(limits: Limits) -> str:
    return f"larger than {limits.bytes_most:,} bytes, which are allowed (DEBUGINFOD_MAXSIZE) or have room on the disk"


def _stalled(received: int, timeout_s: float) -> str:
    return f"less than 100 KB in {timeout_s:g} s" if received else f"no answer in {timeout_s:g} s"


@contextmanager
def _fetching(url: str, limits: Limits) -> Generator[_Fetching]:
    fetching = _Fetching(url, limits)
    try:
        fetching.start()
    except RuntimeError as error:  # a limit of threads
        raise DownloadFailed(str(error)) from error
    try:
        yield fetching
    finally:
        fetching.abandon()


class _Fetching(threading.Thread):
    """Puts what arrives into a short queue, until it ends or is abandoned. `total`: the size that is announced."""

    def __init__(self, url: str, limits: Limits) -> None:
        super().__init__(daemon=True)
        self.total: int | None = None
        self._url = url
        self._limits = limits
        self._pieces: queue.Queue[bytes | DownloadFailed] = queue.Queue(PIECES_WAITING)
        self._is_abandoned = False
        self._socket: socket.socket | None = None

    def next_piece(self) -> bytes | None:
        """The next bytes, none at the end; None when nothing came for a moment. Raises `DownloadFailed`."""
        try:
            piece = self._pieces.get(timeout=LOOK_S)
        except queue.Empty:
            return None
        if isinstance(piece, DownloadFailed):
            raise piece
        return piece

    def abandon(self) -> None:
        """Lets the thread end: at once, or after the lookup of a name."""
        self._is_abandoned = True
        if self._socket is not None:
            with suppress(OSError):
                # Not SSLSocket's own, which takes the connection apart under the thread that reads from it.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def run(self) -> None:
        """The thread's work."""
        try:
            for piece in self._fetch():
                if not self._put(piece):
                    return
            self._put(b"")
        except DownloadFailed as failure:
            self._put(failure)

    def _put(self, piece: bytes | DownloadFailed) -> bool:
        while not self._is_abandoned:
            with suppress(queue.Full):
                self._pieces.put(piece, timeout=LOOK_S)
                return True
        return False

    def _fetch(self) -> Iterator[bytes]:
        try:
            response = self._follow(_opener(self._on_connect))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DownloadFailed(_reason(error), is_silent=True) from error
        with response:
            self._check_status(response)
            try:
                yield from self._content(response)
            except (OSError, http.client.HTTPException, ValueError, zlib.error) as error:
                raise DownloadFailed(f"the transfer broke off ({_reason(error)})") from error

    def _on_connect(self, connected: socket.socket) -> None:
        # From here on `download` bounds the time, and ends it by `abandon`.
        connected.settimeout(None)
        self._socket = connected
        if self._is_abandoned:
            self.abandon()

    def _follow(self, opener: urllib.request.OpenerDirector) -> http.client.HTTPResponse:
        """Asks, and asks on where a redirect leads to. urllib's own way reads without bounds what a redirect says."""
        headers = {
            "User-Agent": f"lockflame/{__version__}",
            "Accept-Encoding": "gzip",
            "X-DEBUGINFOD-MAXSIZE": str(self._limits.bytes_most),
        }
        url = self._url
        for _ in range(REDIRECTS_MOST + 1):
            response = opener.open(urllib.request.Request(url, headers=headers), timeout=CONNECT_TIMEOUT_S)
            if response.status not in REDIRECTS:
                return response
            with response:
                url = _redirected(url, response.headers.get("Location", ""))
        raise DownloadFailed("too many redirects")

    def _check_status(self, response: http.client.HTTPResponse) -> None:
        if response.status == NOT_FOUND:
            raise NotThere("not there")
        if response.status == TOO_LARGE:
            raise DownloadFailed(_too_large(self._limits))
        if response.status != http.client.OK:
            raise DownloadFailed(f"HTTP status {response.status}")

    def _content(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise DownloadFailed("an encoding that wasn't asked for")
        is_plain = encoding == "identity"
        announced = response.headers.get("X-DEBUGINFOD-SIZE") or (
            response.headers.get("Content-Length") if is_plain else None
        )
        self.total = _number(announced)
        yield from _raw_pieces(response) if is_plain else _unzipped(_raw_pieces(response))


def _raw_pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body as it arrives: as long as its Content-Length, where it has one."""
    left = _number(response.headers.get("Content-Length"))
    while left is None or left > 0:
        # read(n) would wait until all of n bytes are there, and says nothing of a body that is too short.
        piece = response.read1(PIECE_BYTES if left is None else min(PIECE_BYTES, left))
        if not piece:
            break
        left = None if left is None else left - len(piece)
        yield piece
    if left:
        raise DownloadFailed(f"{left:,} bytes less than announced")


def _unzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Unpacks gzip in bounded pieces, whatever a small one may swell to."""
    unzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
    for piece in pieces:
        while piece and not unzip.eof:
            if unpacked := unzip.decompress(piece, PIECE_BYTES):
                yield unpacked
            piece = unzip.unconsumed_tail
    while not unzip.eof and (rest := unzip.decompress(unzip.unconsumed_tail, PIECE_BYTES)):
        yield rest
    if not unzip.eof:
        raise DownloadFailed("compressed data are cut off")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None


def _redirected(url: str, location: str) -> str:
    target = urllib.parse.urljoin(url, location)
    scheme = urllib.parse.urlsplit(target).scheme
    if scheme not in ("http", "https") or (scheme == "http" and url.lower().startswith("https:")):
        raise DownloadFailed(f"a redirect to {scheme or 'nowhere'} isn't followed")
    return target


def _reason(error: Exception) -> str:
    """In a few words; the thread's errors come wrapped by urllib."""
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, TimeoutError):
        return f"no answer in {CONNECT_TIMEOUT_S:g} s"
    if isinstance(inner, OSError):
        return reason_of(inner)
    if isinstance(inner, http.client.HTTPException):
        return "its answer isn't proper HTTP"
    return str(inner)


def _opener(on_connect: Callable[[socket.socket], None]) -> urllib.request.OpenerDirector:
    """HTTP and HTTPS, by a proxy where the environment names one, and nothing else (files, FTP)."""

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            on_connect(cast("socket.socket", self.sock))

    class SafeConnection(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            on_connect(cast("socket.socket", self.sock))

    class Handler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Connection, req)

    class SafeHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(SafeConnection, req)

    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), Handler(), SafeHandler(), urllib.request.UnknownHandler()):
        opener.add_handler(handler)
    return opener
