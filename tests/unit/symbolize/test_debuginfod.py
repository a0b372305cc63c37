"""Downloads from debuginfod servers: good files are kept, and whatever a server does ends as a note, in time."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lockflame.errors import LockflameError
from symbolize import debuginfod
from symbolize.debuginfod import Debuginfod, Settings, settings_of
from symbolize.download import REDIRECTS_MOST
from tests.support.debug_server import Answer, DebugServer, Request, debug_server, not_found, send, status
from tests.support.elf_writer import ElfFile, ElfSymbol

BUILD_ID = "ab" * 20
OTHER_ID = "cd" * 20
TIMEOUT_S = 0.5
IN_TIME_S = 10 * TIMEOUT_S
PATH = f"/buildid/{BUILD_ID}/debuginfo"


def debug_file(build_id: str = BUILD_ID, symbols: int = 3) -> bytes:
    return bytes(ElfFile(symbols=[ElfSymbol(f"f{at}", 0x2000 + at, 1) for at in range(symbols)], build_id=build_id))


@pytest.fixture
def server() -> Iterator[DebugServer]:
    with debug_server() as started:
        yield started


@pytest.fixture
def settings(server: DebugServer, tmp_path: Path) -> Settings:
    return Settings((server.url,), (), tmp_path / "cache" / "own", tmp_path / "foreign", timeout_s=TIMEOUT_S)


class Watcher:
    """Keeps what it is told; says "stop" when `stops` holds."""

    def __init__(self, stops: Callable[[int], bool] = lambda _: False) -> None:
        self.began: list[tuple[str, str]] = []
        self.seen: list[tuple[int, int | None]] = []
        self._stops = stops

    @contextlib.contextmanager
    def __call__(self, name: str, url: str) -> Iterator[Callable[[int, int | None], bool]]:
        self.began.append((name, url))

        def keep_going(received: int, total: int | None) -> bool:
            self.seen.append((received, total))
            return not self._stops(received)

        yield keep_going


@contextlib.contextmanager
def client(settings: Settings, watcher: Watcher | None = None) -> Iterator[Debuginfod]:
    """A client that must have let go of all connections soon after."""
    threads = set(threading.enumerate())
    with Debuginfod(settings, watcher or Watcher()) as opened:
        yield opened
    deadline = time.monotonic() + IN_TIME_S
    while any(thread.name.startswith("Thread") and thread.daemon for thread in set(threading.enumerate()) - threads):
        assert time.monotonic() < deadline, "a download still goes on"
        time.sleep(0.01)


def files_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def failed(settings: Settings, build_id: str = BUILD_ID) -> str:
    """The only note after a question that must end without a file, in time, with nothing left behind."""
    start = time.monotonic()
    with client(settings) as asking:
        assert asking.find(build_id, "server") is None
        (note,) = asking.notes()
    assert time.monotonic() - start < IN_TIME_S
    assert files_in(settings.folder) == []
    return note


def test_a_file_is_downloaded_once_and_kept(server: DebugServer, settings: Settings) -> None:
    content = debug_file()
    server.serves(BUILD_ID, content)
    watcher = Watcher()
    with client(settings, watcher) as asking:
        path = asking.find(BUILD_ID, "server")
        assert path is not None
        assert asking.find(BUILD_ID, "server") == path
        assert list(asking.notes()) == [f"debuginfod {server.url}: 1 file of 0.0 MB downloaded."]
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert settings.folder.stat().st_mode & 0o777 == 0o700
    assert watcher.began == [("server", server.url)]
    assert watcher.seen[-1] == (len(content), len(content))
    assert server.asked == [PATH]
    with client(settings) as again:
        assert again.find(BUILD_ID, "server") == path
        assert list(again.notes()) == []
    assert server.asked == [PATH]


def test_only_build_ids_are_asked_for(server: DebugServer, settings: Settings) -> None:
    with client(settings) as asking:
        for text in ("", "ab", "../../etc/passwd", "AB" * 20, "ab" * 65, "abc" * 3, "ab" * 20 + "\n", "g" * 40):
            assert asking.find(text, "server") is None
    assert server.asked == []


def test_servers_are_asked_in_turn(server: DebugServer, settings: Settings) -> None:
    with debug_server() as second:
        second.serves(BUILD_ID, debug_file())
        with client(replace(settings, urls=(server.url, second.url))) as asking:
            assert asking.find(BUILD_ID, "server") is not None
            assert asking.find(OTHER_ID, "libother.so") is None
            notes = list(asking.notes())
    assert notes == [
        f"debuginfod {second.url}: 1 file of 0.0 MB downloaded.",
        "No debuginfod server has the debug info of 1 file: libother.so.",
    ]
    assert server.asked == [PATH, f"/buildid/{OTHER_ID}/debuginfo"]


def test_what_no_server_has_is_remembered(server: DebugServer, settings: Settings) -> None:
    with client(settings) as asking:
        assert asking.find(BUILD_ID, "server") is asking.find(BUILD_ID, "server") is None
    assert server.asked == [PATH]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>We are sorry</html>" * 100, "rubbish: not an ELF file"),
        (b"", "rubbish: an empty file"),
        (debug_file(OTHER_ID), "the file has another build-id"),
        (debug_file("ab" * 8), "the file has another build-id"),
        (debug_file()[:-1], "rubbish: damaged ELF headers"),
    ],
    ids=["html", "empty", "another-id", "shorter-id", "cut-off"],
)
def test_rubbish_is_not_kept(server: DebugServer, settings: Settings, content: bytes, reason: str) -> None:
    server.serves(BUILD_ID, content)
    assert f"debuginfod {server.url}: 1 file couldn't be fetched ({reason}" in failed(settings)


def test_a_file_whose_sections_lie_behind_its_end(server: DebugServer, settings: Settings) -> None:
    content = bytearray(debug_file())
    table = int.from_bytes(content[0x28:0x30], "little")
    count = int.from_bytes(content[0x3C:0x3E], "little")
    sizes = [table + 64 * index + 0x20 for index in range(count)]
    symbols = next(at for at in sizes if int.from_bytes(content[at - 0x1C : at - 0x18], "little") == 2)
    content[symbols : symbols + 8] = (1 << 30).to_bytes(8, "little")
    server.serves(BUILD_ID, bytes(content))
    assert "the file is cut off" in failed(settings)


def rubbish(request: Request) -> None:
    request.wfile.write(b"\0\1\2 SSH-2.0\r\n\r\n")


def redirect(location: str) -> Answer:
    return status(302, Location=location)


def sending(content: bytes, **headers: str) -> Answer:
    return lambda request: send(request, content, {name.replace("_", "-"): text for name, text in headers.items()})


GOOD = debug_file()
ZIPPED = gzip.compress(GOOD)
BAD_ANSWERS: dict[str, tuple[Callable[[DebugServer], Answer], str]] = {
    "hangs": (lambda server: server.hang, "no answer in 0.5 s; it was given up"),
    "hangs-midway": (lambda server: server.hang_after(GOOD[:99], len(GOOD)), "less than 100 KB in 0.5 s; it was given"),
    "trickles": (lambda server: server.trickle, "less than 100 KB in 0.5 s; it was given up"),
    "trickles-headers": (lambda server: server.trickle_headers, "no answer in 0.5 s; it was given up"),
    "no-http": (lambda _: rubbish, "its answer isn't proper HTTP; it was given up"),
    "says-nothing": (lambda _: lambda _: None, "Remote end closed connection without response; it was given up"),
    "error": (lambda _: status(500), "HTTP status 500"),
    "busy": (lambda _: status(503), "HTTP status 503"),
    "says-too-large": (lambda _: status(406), "larger than 4,294,967,296 bytes"),
    "announces-more": (lambda _: sending(GOOD, Content_Length=str(len(GOOD) + 9)), "9 bytes less than announced"),
    "announces-less": (lambda _: sending(GOOD, Content_Length=str(len(GOOD) - 9)), "rubbish: damaged ELF headers"),
    "announces-huge": (lambda _: sending(GOOD, Content_Length=str(1 << 50)), "larger than 4,294,967,296 bytes"),
    "zip-cut-off": (lambda _: sending(ZIPPED[:-20], Content_Encoding="gzip"), "compressed data are cut off"),
    "zip-is-none": (lambda _: sending(GOOD, Content_Encoding="gzip"), "the transfer broke off"),
    "brotli": (lambda _: sending(GOOD, Content_Encoding="br"), "an encoding that wasn't asked for"),
    "redirect-loop": (lambda _: redirect(PATH), "too many redirects"),
    "redirect-to-file": (lambda _: redirect("file:///etc/passwd"), "a redirect to file isn't followed"),
    "redirect-to-ftp": (lambda _: redirect("ftp://127.0.0.1/x"), "a redirect to ftp isn't followed"),
    "redirect-nowhere": (lambda _: status(302), "too many redirects"),
}


@pytest.mark.parametrize("case", BAD_ANSWERS)
def test_a_bad_answer_is_a_note(server: DebugServer, settings: Settings, case: str) -> None:
    answer, reason = BAD_ANSWERS[case]
    server.answer = answer(server)
    note = failed(settings)
    assert note.startswith(f"debuginfod {server.url}: 1 file couldn't be fetched (")
    assert reason in note
    assert len(server.asked) == (REDIRECTS_MOST + 1 if reason == "too many redirects" else 1)


def test_a_redirect_is_followed(server: DebugServer, settings: Settings) -> None:
    content = debug_file()

    def answer(request: Request) -> None:
        if request.path == PATH:
            status(302, Location="/elsewhere")(request)
        else:
            send(request, content)

    server.answer = answer
    with client(settings) as asking:
        path = asking.find(BUILD_ID, "server")
    assert path is not None
    assert path.read_bytes() == content
    assert server.asked == [PATH, "/elsewhere"]


@pytest.mark.parametrize("symbols", [3, 30_000], ids=["small", "many-pieces"])
def test_a_compressed_answer_is_unpacked(server: DebugServer, settings: Settings, symbols: int) -> None:
    content = debug_file(symbols=symbols)
    server.answer = sending(gzip.compress(content), Content_Encoding="gzip", X_DEBUGINFOD_SIZE=str(len(content)))
    watcher = Watcher()
    with client(settings, watcher) as asking:
        path = asking.find(BUILD_ID, "server")
    assert path is not None
    assert path.read_bytes() == content
    assert watcher.seen[-1] == (len(content), len(content))
    assert server.headers[0]["Accept-Encoding"] == "gzip"


def test_a_small_answer_that_swells_is_stopped(server: DebugServer, settings: Settings) -> None:
    bomb = gzip.compress(bytes(200 << 20), 9)
    server.answer = lambda request: send(request, bomb, {"Content-Encoding": "gzip"})
    note = failed(replace(settings, bytes_most=1 << 20, timeout_s=10))
    assert "larger than 1,048,576 bytes" in note
    assert server.headers[0]["X-Debuginfod-Maxsize"] == "1048576"


def test_an_answer_without_size_is_stopped(server: DebugServer, settings: Settings) -> None:
    def endless(request: Request) -> None:
        request.send_response(200)
        request.end_headers()
        while not server.stop.is_set():
            request.wfile.write(bytes(1 << 16))

    server.answer = endless
    assert "larger than 3,000,000 bytes" in failed(replace(settings, bytes_most=3_000_000, timeout_s=10))
    assert "not complete after 0.2 s" in failed(replace(settings, time_most_s=0.2, timeout_s=10))


def test_no_file_fills_the_disk(server: DebugServer, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debuginfod, "ROOM_LEFT_BYTES", 1 << 62)
    server.serves(BUILD_ID, debug_file())
    assert "no room on the disk" in failed(settings)
    assert server.asked == []


def test_a_server_that_is_down_is_asked_once(settings: Settings) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # not listening: refused
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with client(replace(settings, urls=(url,))) as asking:
            for byte in range(5):
                assert asking.find(f"{byte:02x}" * 20, "server") is None
            notes = list(asking.notes())
    assert notes == [f"debuginfod {url}: 5 files couldn't be fetched (Connection refused; it was given up)."]


def test_a_silent_server_is_asked_once(server: DebugServer, settings: Settings) -> None:
    server.answer = server.hang
    with client(settings) as asking:
        assert [asking.find(f"{byte:02x}" * 20, "server") for byte in range(5)] == [None] * 5
        (note,) = asking.notes()
    assert "5 files couldn't be fetched (no answer in 0.5 s; it was given up)" in note
    assert len(server.asked) == 1


def test_a_server_that_fails_again_and_again_is_given_up(server: DebugServer, settings: Settings) -> None:
    server.answer = status(500)
    with client(settings) as asking:
        assert [asking.find(f"{byte:02x}" * 20, "server") for byte in range(9)] == [None] * 9
        (note,) = asking.notes()
    assert "9 files couldn't be fetched (HTTP status 500; it was given up)" in note
    assert len(server.asked) == debuginfod.FAILURES_MOST


def test_a_host_that_has_no_address(settings: Settings) -> None:
    url = "http://debuginfod.invalid"
    with client(replace(settings, urls=(url,), timeout_s=20)) as asking:
        assert asking.find(BUILD_ID, "server") is None
        (note,) = asking.notes()
    assert note.startswith(f"debuginfod {url}: 1 file couldn't be fetched (")
    assert "given up" in note


def test_an_interruption_ends_all_downloads(server: DebugServer, settings: Settings) -> None:
    server.answer = server.hang_after(debug_file()[:100], 1 << 20)
    with client(replace(settings, timeout_s=30), Watcher(lambda received: received > 0)) as asking:
        start = time.monotonic()
        assert asking.find(BUILD_ID, "server") is None
        assert asking.find(OTHER_ID, "other") is None
        assert time.monotonic() - start < IN_TIME_S
        assert list(asking.notes()) == ["The downloads were interrupted: 2 files of debug info were not fetched."]
    assert server.asked == [PATH]
    assert files_in(settings.folder) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_nothing_behind(
    server: DebugServer, settings: Settings, error: type[BaseException]
) -> None:
    def fail(_: int) -> bool:
        raise error

    server.answer = server.hang
    with client(replace(settings, timeout_s=30), Watcher(fail)) as asking, pytest.raises(error):
        asking.find(BUILD_ID, "server")
    assert files_in(settings.folder) == []


def test_a_damaged_file_of_the_cache_is_fetched_anew(server: DebugServer, settings: Settings) -> None:
    server.serves(BUILD_ID, debug_file())
    settings.folder.mkdir(parents=True)
    (settings.folder / BUILD_ID).write_bytes(debug_file()[:-1])
    with client(settings) as asking:
        assert asking.find(BUILD_ID, "server") == settings.folder / BUILD_ID
        notes = list(asking.notes())
    assert notes[-1] == f"Damaged and left out: 1 file in {settings.folder}."
    assert (settings.folder / BUILD_ID).read_bytes() == debug_file()


def test_the_cache_of_the_standard_client_is_read(server: DebugServer, settings: Settings) -> None:
    path = settings.foreign_folder / BUILD_ID / "debuginfo"
    path.parent.mkdir(parents=True)
    path.write_bytes(debug_file())
    with client(settings) as asking:
        assert asking.find(BUILD_ID, "server") == path
    assert server.asked == []
    assert files_in(settings.folder) == []


@pytest.mark.parametrize("spoil", ["rubbish", "another-id", "link", "fifo", "empty"])
def test_the_cache_of_the_standard_client_is_not_trusted(server: DebugServer, settings: Settings, spoil: str) -> None:
    path = settings.foreign_folder / BUILD_ID / "debuginfo"
    path.parent.mkdir(parents=True)
    if spoil == "link":
        (path.parent / "real").write_bytes(debug_file())
        path.symlink_to(path.parent / "real")
    elif spoil == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes({"rubbish": b"x" * 100, "another-id": debug_file(OTHER_ID), "empty": b""}[spoil])
    server.serves(BUILD_ID, debug_file())
    with client(settings) as asking:
        assert asking.find(BUILD_ID, "server") == settings.folder / BUILD_ID


@pytest.mark.requires_root
def test_other_users_files_are_not_trusted(server: DebugServer, settings: Settings) -> None:
    for path in (settings.foreign_folder / BUILD_ID / "debuginfo", settings.folder / BUILD_ID):
        path.parent.mkdir(parents=True)
        path.write_bytes(debug_file())
        os.chown(path, 12345, 12345)
    with client(settings) as asking:
        assert asking.find(BUILD_ID, "server") is None
    assert server.asked == [PATH]


def test_a_cache_that_cannot_be_written(server: DebugServer, settings: Settings) -> None:
    settings.folder.parent.mkdir()
    settings.folder.write_text("a file in its place")
    content = debug_file()
    server.answer = lambda request: send(request, debug_file(request.path.split("/")[2]))
    with client(settings) as asking:
        path, other = asking.find(BUILD_ID, "server"), asking.find(OTHER_ID, "other")
        assert path is not None
        assert other is not None
        assert path.read_bytes() == content
        assert other.read_bytes() == debug_file(OTHER_ID)
        notes = list(asking.notes())
    assert notes[-1] == f"Downloads couldn't be kept in {settings.folder} (File exists)."
    assert settings.folder.read_text() == "a file in its place"


def test_the_folder_is_bounded_but_keeps_what_is_in_use(
    server: DebugServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = lambda request: send(request, debug_file(request.path.split("/")[2]))
    monkeypatch.setattr(debuginfod, "FOLDER_BYTES_MOST", len(debug_file()) * 2)
    names = [f"{byte:02x}" * 20 for byte in range(5)]
    with client(settings) as asking:
        assert all(asking.find(name, "server") for name in names[:4])
        assert files_in(settings.folder) == names[:4]
    for age_s, name in enumerate(names):
        if name != names[4]:
            os.utime(settings.folder / name, (time.time() - 100 + age_s,) * 2)
    unfinished = settings.folder / ".new-killed"
    unfinished.write_bytes(b"x")
    os.utime(unfinished, (1e9, 1e9))
    (settings.folder / ".new-under-way").write_bytes(b"x")
    with client(settings) as asking:
        assert asking.find(names[0], "server")  # from the cache, and so in use
        assert asking.find(names[4], "server")
    assert files_in(settings.folder) == [".new-under-way", names[0], names[4]]


def test_two_at_once(server: DebugServer, settings: Settings) -> None:
    server.serves(BUILD_ID, debug_file(symbols=20_000))
    found: list[Path | None] = []

    def ask() -> None:
        with Debuginfod(settings, Watcher()) as asking:
            found.append(asking.find(BUILD_ID, "server"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [settings.folder / BUILD_ID] * 4
    assert files_in(settings.folder) == [BUILD_ID]
    assert (settings.folder / BUILD_ID).read_bytes() == debug_file(symbols=20_000)


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    settings = settings_of(
        {
            "DEBUGINFOD_URLS": " https://a.example/  http://b.example:8002\thttps://a.example ",
            "DEBUGINFOD_TIMEOUT": "7",
            "DEBUGINFOD_MAXTIME": "0",
            "DEBUGINFOD_MAXSIZE": "1000",
            "XDG_CACHE_HOME": str(tmp_path),
        }
    )
    assert settings.urls == ("https://a.example", "http://b.example:8002")
    assert settings.foreign_folder == tmp_path / "debuginfod_client"
    assert (settings.timeout_s, settings.time_most_s, settings.bytes_most) == (7, debuginfod.TIME_MOST_S, 1000)
    assert settings_of({"DEBUGINFOD_CACHE_PATH": "/x"}).foreign_folder == Path("/x")
    assert settings_of({}).urls == ()


def test_addresses_that_are_not_asked() -> None:
    settings = settings_of({"DEBUGINFOD_URLS": "ftp://x file:///y z https:// https://u:secret@h http://ok"})
    assert settings.urls == ("http://ok",)
    assert settings.unusable == ("ftp://x", "file:///y", "z", "https:", "https://...")
    with client(settings) as asking:
        notes = list(asking.notes())
    assert len(notes) == 5
    assert not any("secret" in note for note in notes)


def test_signatures_are_not_promised() -> None:
    settings = settings_of({"DEBUGINFOD_URLS": "http://a ima:enforcing http://b ima:ignore http://c"})
    assert settings.urls == ("http://a", "http://c")
    assert settings.unusable == ("http://b",)


@pytest.mark.parametrize("name", ["DEBUGINFOD_TIMEOUT", "DEBUGINFOD_MAXSIZE", "DEBUGINFOD_MAXTIME"])
@pytest.mark.parametrize("text", ["soon", "nan", "1e999"])
def test_numbers_that_are_none(name: str, text: str) -> None:
    with pytest.raises(LockflameError, match=name):
        settings_of({name: text})


def test_nothing_is_asked_without_servers(settings: Settings) -> None:
    with client(replace(settings, urls=())) as asking:
        assert asking.find(BUILD_ID, "server") is None


def test_not_found_is_the_servers_word_for_one_file(server: DebugServer, settings: Settings) -> None:
    server.answer = not_found
    assert failed(settings) == "No debuginfod server has the debug info of 1 file: server."
