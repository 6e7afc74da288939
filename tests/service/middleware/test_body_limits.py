"""Request bodies are limited in size and time, whatever the application does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from linewise.service.errors import BodyTooLarge, ServiceError, UploadTimeout, problem_response
from linewise.service.middleware.body_limits import BodyLimitMiddleware


async def reads_all(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        body = await Request(scope, receive).body()
    except ServiceError as error:
        await problem_response(error, scope)(scope, receive, send)
    else:
        await PlainTextResponse(str(len(body)))(scope, receive, send)


def drive(
    limits: BodyLimitMiddleware,
    receive: Callable[[], Awaitable[Message]],
    headers: list[tuple[bytes, bytes]] | None = None,
) -> tuple[int, bytes]:
    """Send one request through the middleware; return status and body."""
    sent: list[Any] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers or []}
    asyncio.run(limits(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def chunks(*bodies: bytes) -> Callable[[], Awaitable[Message]]:
    messages = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Message:
        return messages.pop(0)

    return receive


def test_a_body_at_the_limit_passes() -> None:
    assert drive(
        BodyLimitMiddleware(reads_all, max_bytes=10, max_total_bytes=10**9, timeout=5), chunks(b"12345", b"67890")
    ) == (
        200,
        b"10",
    )


def test_a_body_without_length_is_refused_when_it_exceeds_the_limit() -> None:
    status, body = drive(
        BodyLimitMiddleware(reads_all, max_bytes=10, max_total_bytes=10**9, timeout=5), chunks(b"12345", b"67890", b"1")
    )
    assert (status, json.loads(body)["code"]) == (413, "body_too_large")


def test_a_declared_length_over_the_limit_is_refused_without_reading() -> None:
    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    limits = BodyLimitMiddleware(reads_all, max_bytes=10, max_total_bytes=10**9, timeout=5)
    status, body = drive(limits, receive, [(b"content-length", b"11")])
    assert (status, json.loads(body)["code"]) == (413, "body_too_large")


def test_an_endless_body_times_out() -> None:
    async def receive() -> Message:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    status, body = drive(BodyLimitMiddleware(reads_all, max_bytes=10**6, max_total_bytes=10**9, timeout=0.05), receive)
    assert (status, json.loads(body)["code"]) == (408, "upload_timeout")


def test_a_missing_body_times_out() -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    status, body = drive(BodyLimitMiddleware(reads_all, max_bytes=10, max_total_bytes=10**9, timeout=0.01), receive)
    assert (status, json.loads(body)["code"]) == (408, "upload_timeout")


def test_waiting_for_a_disconnect_after_the_body_has_no_timeout() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await receive()
        await PlainTextResponse("gone")(scope, receive, send)

    messages: list[Message] = [{"type": "http.request", "body": b"x", "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    assert drive(BodyLimitMiddleware(app, max_bytes=10, max_total_bytes=10**9, timeout=0.01), receive) == (200, b"gone")


def test_repeated_reads_repeat_the_failure() -> None:
    seen: list[type[Exception]] = []

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            try:
                await receive()
            except (BodyTooLarge, UploadTimeout) as error:
                seen.append(type(error))
        await PlainTextResponse("")(scope, receive, send)

    drive(BodyLimitMiddleware(stubborn, max_bytes=1, max_total_bytes=10**9, timeout=5), chunks(b"12", b"3"))
    assert seen == [BodyTooLarge] * 3


def test_other_scopes_pass_unchanged() -> None:
    passed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["type"])

    async def nothing(*_: object) -> Any:
        raise AssertionError

    asyncio.run(
        BodyLimitMiddleware(app, max_bytes=1, max_total_bytes=10**9, timeout=1)({"type": "lifespan"}, nothing, nothing)
    )
    assert passed == ["lifespan"]


def test_the_total_of_all_bodies_is_limited_and_released() -> None:
    limits = BodyLimitMiddleware(reads_all, max_bytes=10, max_total_bytes=15, timeout=5)

    async def scenario() -> list[int]:
        statuses: list[int] = []
        first_may_end = asyncio.Event()

        async def request(messages: Callable[[], Awaitable[Message]]) -> None:
            async def send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            await limits({"type": "http", "method": "POST", "path": "/", "headers": []}, messages, send)

        began = False

        async def held_open() -> Message:
            nonlocal began
            if not began:
                began = True
                return {"type": "http.request", "body": bytes(10), "more_body": True}
            await first_may_end.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        first = asyncio.create_task(request(held_open))
        while limits.bytes_in_flight < 10:
            await asyncio.sleep(0)
        await request(chunks(bytes(6)))
        await request(chunks(bytes(5)))
        first_may_end.set()
        await first
        await request(chunks(bytes(10)))
        return statuses

    assert asyncio.run(scenario()) == [503, 200, 200, 200]
    assert limits.bytes_in_flight == 0


async def stalled(limits: BodyLimitMiddleware, size: int, end: asyncio.Event) -> None:
    """Send a body of which the last part is missing until the end."""
    parts = [{"type": "http.request", "body": bytes(size), "more_body": True}]

    async def receive() -> Message:
        if parts:
            return parts.pop()
        await end.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    await limits({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, send)


def test_stalled_large_bodies_leave_room_for_small_ones() -> None:
    largest, total = 90 * 2**20, 256 * 2**20
    limits = BodyLimitMiddleware(reads_all, max_bytes=largest, max_total_bytes=total, timeout=60)

    async def scenario() -> list[int]:
        end = asyncio.Event()
        uploads = [asyncio.create_task(stalled(limits, 85 * 2**20 + 200_000, end)) for _ in range(3)]
        await asyncio.sleep(0.01)
        statuses: list[int] = []

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        for size in (2**20, 90 * 2**20):
            scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
            await limits(scope, chunks(bytes(size)), send)
        end.set()
        await asyncio.gather(*uploads, return_exceptions=True)
        return statuses

    assert asyncio.run(scenario()) == [200, 503]
    assert limits.bytes_in_flight == 0


def test_the_application_may_release_a_body_before_its_answer() -> None:
    left: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        left.append(limits.bytes_in_flight)
        scope["state"]["release_body"]()
        left.append(limits.bytes_in_flight)
        await PlainTextResponse("")(scope, receive, send)

    limits = BodyLimitMiddleware(app, max_bytes=10, max_total_bytes=10, timeout=5)
    assert drive(limits, chunks(b"12345"))[0] == 200
    assert left == [5, 0]
    assert limits.bytes_in_flight == 0
