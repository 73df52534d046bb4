"""The server of the live page: who may use it, and what does not bring it down."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import websockets

import agents
from tests.conftest import SMALL
from tests.helpers import live as small
from tests.helpers.browser import TOKEN, served
from visualization.live.messages import MAX_MESSAGE, pack, unpack
from visualization.live.server import listen

IMAGE = small.samples()[1]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Return the address of a page that is served."""
    with served(small.live()) as found:
        yield found


def get(address: str, path: str = "", **headers: str) -> tuple[int, str, Any]:
    """Return status, text and headers of a file."""
    parts = urlsplit(address)
    with contextlib.closing(http.client.HTTPConnection(parts.netloc)) as connection:
        connection.request("GET", f"{parts.path}{path}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers


def connect(address: str, origin: str | None = "own") -> Any:
    """Return a connection to the socket of a page."""
    parts = urlsplit(address)
    own = f"http://{parts.netloc}" if origin == "own" else origin
    return websockets.connect(f"ws://{parts.netloc}{parts.path}socket", origin=own, max_size=None)


async def converse(address: str, *frames: bytes | str, **settings: Any) -> list[dict[str, Any]]:
    """Send frames one after the other; return the headers of the replies."""
    async with connect(address, **settings) as channel:
        headers = []
        for content in frames:
            await channel.send(content)
            headers.append(unpack(await channel.recv())[0])
        return headers


def test_the_page_and_its_files_are_served(address: str) -> None:
    """The document names files beside it, and all are there, for this page alone."""
    status, text, headers = get(address)
    assert status == 200
    assert "a &lt;small&gt; network" in text
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    for name in ("live.js", "start.js", "live.css"):
        assert get(address, name)[0] == 200, name
    assert "http" not in text.replace("http-equiv", "")


def test_another_token_is_refused(address: str) -> None:
    """Without the token there is neither page nor socket, and the reason is said."""
    wrong = address.replace(TOKEN, "tokem")
    for path in ("", "live.js"):
        assert get(wrong, path)[:2] == (
            403, "refused: the address has another token; the terminal shows the right one",
        )  # fmt: skip
    with pytest.raises(websockets.ConnectionClosed, match="another token"):
        asyncio.run(converse(wrong, pack({"id": 1})))


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None, "http://127.0.0.1:1"])
def test_other_origins_are_refused(address: str, origin: str | None) -> None:
    """A page of another site cannot use the socket, though it may know the token."""
    with pytest.raises(websockets.ConnectionClosed, match="another origin"):
        asyncio.run(converse(address, pack({"id": 1}), origin=origin))


def test_a_foreign_name_of_this_machine_is_refused(address: str) -> None:
    """A name that was made to lead here (DNS rebinding) is not this machine's."""
    status, text, _ = get(address, Host="evil.example:80")
    assert (status, "'evil.example' is not this machine" in text) == (403, True)


def test_rubbish_is_answered_and_the_page_goes_on(address: str) -> None:
    """Text, broken frames and unknown calls are errors with words; the next message is served."""
    bad = ["text", b"", b"\xff" * 9, pack({"id": 5, "panel": "image", "call": "fram"})]
    *errors, last = asyncio.run(converse(address, *bad, pack(*small.frame(IMAGE))))
    assert [error["error"].partition(":")[0] for error in errors] == ["message"] * 3 + ["call"]
    assert "did you mean 'frame'" in errors[-1]["error"]
    assert last["answer"]["kind"] == "classes"


def test_a_message_that_is_too_large_closes_its_page_alone(address: str) -> None:
    """A frame of 33 MB ends that connection; others are served."""

    async def check() -> list[dict[str, Any]]:
        async with connect(address) as large, connect(address) as other:
            await large.send(b"\0" * (MAX_MESSAGE + 2**20))
            with pytest.raises(websockets.ConnectionClosed, match="1009"):
                await large.recv()
            await other.send(pack({"id": 3}))
            return [unpack(await other.recv())[0]]

    assert asyncio.run(check())[0]["id"] == 3


def test_twenty_pages_at_once_have_their_own_drawings(address: str) -> None:
    """Each of twenty pages gets the change of its own drawing against its own original."""

    async def one(number: int) -> float:
        own = np.full_like(IMAGE, number / 20)
        original = {"id": 1, "panel": "image", "call": "original"}, [own.astype("<f4").tobytes()]
        frames = [pack(*original), pack(*small.frame(own, compared="change"))]
        replies = await converse(address, *frames)
        return float(np.abs(replies[1]["limits"]).max())

    async def all_pages() -> list[float]:
        return await asyncio.gather(*(one(number) for number in range(20)))

    assert asyncio.run(all_pages()) == pytest.approx([0.0] * 20, abs=1e-6)


def test_a_page_that_is_closed_while_it_waits_harms_none(address: str) -> None:
    """A socket that is closed before its reply came is forgotten."""

    async def check() -> dict[str, Any]:
        channel = await connect(address)
        await channel.send(pack(*small.frame(IMAGE)))
        channel.transport.abort()
        return (await converse(address, pack({"id": 9})))[0]

    assert asyncio.run(check())["id"] == 9


def test_a_port_in_use_is_an_error() -> None:
    """The error names the option and what is accepted."""
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match=r"--port: port .* accepted: a free port, or 0"):
            listen("127.0.0.1", taken.getsockname()[1])


def test_the_command_serves_a_run_until_it_is_interrupted(tmp_path: Path) -> None:
    """`--mode live` prints an address with a token; Ctrl-C ends it, with a page open, with 0."""
    own = {name: SMALL[name] for name in ("steps", "batch_size", "eval_samples")}
    agent = agents.make("cnn_classifier", task="digits", channels=4, seed=0, device="cpu", **own)
    agent.learn(run_dir=tmp_path)
    command = [sys.executable, "main.py", "--mode", "live", "--run-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[0]
        assert len(urlsplit(address).path.strip("/")) >= 20

        async def check() -> dict[str, Any]:
            async with connect(address) as channel:
                await channel.send(pack({"id": 1}))
                header = unpack(await channel.recv())[0]
                os.kill(process.pid, signal.SIGINT)
                with contextlib.suppress(websockets.ConnectionClosed):
                    await channel.recv()
                return header

        header = asyncio.run(check())
    assert process.returncode == 0
    assert header["title"] == "cnn_classifier on digits"
    assert json.dumps(header)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """An option of another mode, and an agent without anything to draw, are errors in words."""
    run = subprocess.run(
        [sys.executable, "main.py", "--agent", "cnn_classifier", "--task", "digits", "--port", "1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert "--port: cannot be combined with --mode train; accepted: --mode live" in run.stderr
