"""A debuginfod server of the tests' own, on this machine, whose answers a test makes as good or as bad as it likes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Request = BaseHTTPRequestHandler
Answer = Callable[[Request], None]


class DebugServer:
    """`answer` is called for each request; `asked` are the paths so far, `stop` is set at the end."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Answer = not_found
        self.stop = threading.Event()
        self.url = ""

    def serves(self, build_id: str, content: bytes) -> None:
        """Have this debug file, and no other."""

        def answer(request: Request) -> None:
            if request.path == f"/buildid/{build_id}/debuginfo":
                send(request, content)
            else:
                not_found(request)

        self.answer = answer

    def hang(self, request: Request) -> None:
        """Take the question and say nothing."""
        self.stop.wait(60)

    def hang_after(self, content: bytes, size: int) -> Answer:
        """Announce `size` bytes, send `content` and nothing more."""

        def answer(request: Request) -> None:
            send(request, content, {"Content-Length": str(size)})
            self.stop.wait(60)

        return answer

    def trickle(self, request: Request) -> None:
        """Send a byte now and then, for ever."""
        request.send_response(200)
        request.end_headers()
        while not self.stop.wait(0.05):
            request.wfile.write(b"\x7f")
            request.wfile.flush()

    def trickle_headers(self, request: Request) -> None:
        """Never come to the end of the first line."""
        while not self.stop.wait(0.05):
            request.wfile.write(b"H")
            request.wfile.flush()


def not_found(request: Request) -> None:
    """As for a build-id that isn't known."""
    status(404)(request)


def status(number: int, **headers: str) -> Answer:
    """An answer without content."""

    def answer(request: Request) -> None:
        request.send_response(number)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()

    return answer


def send(request: Request, content: bytes, headers: dict[str, str] | None = None) -> None:
    """A whole answer; `headers` take the place of what would be right."""
    request.send_response(200)
    for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(content)
    request.wfile.flush()


@contextlib.contextmanager
def debug_server() -> Iterator[DebugServer]:
    """A server on a free port, until the end."""
    server = DebugServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)
            server.headers.append(dict(self.headers.items()))
            with contextlib.suppress(OSError):  # whoever asked has gone
                server.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Listener(ThreadingHTTPServer):
        daemon_threads = False  # they are waited for: each test ends what it began

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    listener = Listener(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        listener.shutdown()
        listener.server_close()
        thread.join()
