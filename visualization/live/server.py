"""Server of the live page: starlette and uvicorn, on this machine alone unless told otherwise.

Every address begins with a random token. A page of another origin is refused, and so is a name of
the host that is not its own, by which a foreign page could reach the server (DNS rebinding).
"""

import asyncio
import contextlib
import functools
import ipaddress
import secrets
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from visualization.core.errors import argument_error
from visualization.live import page
from visualization.live.messages import MAX_MESSAGE, pack, unpack
from visualization.live.session import Live, Session
from visualization.live.worker import Worker

_GRACE = 0.3  # seconds that open pages have when the server stops
_ANY = ("0.0.0.0", "::")  # all addresses of this machine
_REFUSED = 4403  # code of a socket that is refused
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def application(live: Live, token: str, host: str = "127.0.0.1") -> Starlette:
    """Return the application, whose addresses begin with `/token/`.

    Args:
        live: what is shown.
        token: of the addresses.
        host: the name by which it is reached, beside numbers and localhost.
    """
    worker = Worker()

    def file(content: Callable[[], str], kind: str) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            problem = _problem(request, token, host)
            if problem:
                return PlainTextResponse(problem, 403, _HEADERS)
            return Response(content(), 200, _HEADERS, kind)

        return endpoint

    async def messages(websocket: WebSocket) -> None:
        own = f"{'https' if websocket.url.scheme == 'wss' else 'http'}://{websocket.url.netloc}"
        problem = _problem(websocket, token, host)
        if not problem and websocket.headers.get("origin") != own:
            problem = "refused: the page is of another origin"
        await websocket.accept()
        if problem:  # once it is accepted, a browser learns the reason
            await websocket.close(_REFUSED, problem)
            return
        await _converse(websocket, live, worker)

    files: dict[str, tuple[Callable[[], str], str]] = {
        "": (lambda: page.document(live.title), "text/html"),
        "live.js": (page.script, "text/javascript"),
        "start.js": (lambda: page.START, "text/javascript"),
        "live.css": (page.style, "text/css"),
    }
    routes = [Route(f"/{{token}}/{name}", file(*each)) for name, each in files.items()]
    return Starlette(routes=[*routes, WebSocketRoute("/{token}/socket", messages)])


def _problem(connection: HTTPConnection, token: str, host: str) -> str:
    """Return why a connection is refused; empty: it is not."""
    given = connection.path_params["token"]
    if not secrets.compare_digest(given.encode(), token.encode()):
        return "refused: the address has another token; the terminal shows the right one"
    name = connection.url.hostname or ""
    if name not in ("localhost", host.lower(), _own_name(host)) and not _is_number(name):
        return f"refused: {name[:80]!r} is not this machine; accepted: its number, or {host}"
    return ""


def _own_name(host: str) -> str:
    """Return the name by which other machines reach this one, if it serves all of them."""
    return socket.gethostname().lower() if host in _ANY else host.lower()


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _converse(websocket: WebSocket, live: Live, worker: Worker) -> None:
    """Answer the messages of one page until it is closed."""

    async def call(function: Callable[[], Any]) -> Any:
        return await asyncio.wrap_future(worker.submit(function))

    session = await call(lambda: Session(live))
    try:
        while True:
            frame = await websocket.receive()
            if frame["type"] == "websocket.disconnect":
                return
            content = frame.get("bytes")
            await websocket.send_bytes(await call(functools.partial(_answer, session, content)))
    except (WebSocketDisconnect, RuntimeError):  # closed while the reply was made
        return


def _answer(session: Session, content: bytes | None) -> bytes:
    """Return the frame of the reply to a frame, also to one that is no message."""
    number = None
    try:
        if content is None:
            raise argument_error("message", "a text", "a binary frame")
        header, buffers = unpack(content)
        reply = session.handle(header, buffers)
        number = reply.data.get("id")
        return pack(reply.data, reply.buffers)
    except ValueError as error:  # of what came in; or the reply has numbers that are not finite
        return pack({"id": number, "error": str(error)})


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at a host and port; port 0: any free one.

    Raises:
        ValueError: the port is in use, or the host is not of this machine.
    """
    with contextlib.ExitStack() as stack:
        try:
            family = socket.getaddrinfo(host, port)[0][0]
            listening = stack.enter_context(socket.socket(family))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen()
        except (OSError, OverflowError) as error:
            problem = f"port {port} of {host} cannot be used: {error}"
            raise argument_error("--port", problem, "a free port, or 0 for any") from None
        stack.pop_all()
    return listening


def serve(
    live: Live, host: str = "127.0.0.1", port: int = 0, announce: Callable[[str], None] = print
) -> None:
    """Serve a live page until Ctrl-C; its address, with a random token, is announced first.

    Args:
        live: what is shown.
        host: this machine's name or number under which it can be reached; the default: by this
            machine alone. All that know the address can use the page.
        port: 0: any free one.
        announce: called with the address.

    Raises:
        ValueError: the port is in use, or the host is not of this machine.
    """
    token = secrets.token_urlsafe(16)
    listening = listen(host, port)
    own = socket.gethostname() if host in _ANY else host
    shown = f"[{own}]" if ":" in own else own
    announce(f"http://{shown}:{listening.getsockname()[1]}/{token}/")
    config = uvicorn.Config(
        application(live, token, host), log_level="critical", ws_max_size=MAX_MESSAGE,
        ws_per_message_deflate=False, ws_max_queue=2, timeout_graceful_shutdown=_GRACE,  # type: ignore[arg-type]
        lifespan="off",
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn raises the signal again when all is closed
        return
    finally:
        listening.close()
