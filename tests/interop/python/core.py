"""nats-py against the server that NATS_URL names. Prints the name of each part that has passed."""

import asyncio
import os
import sys

import nats
from nats.errors import NoRespondersError
from settled import settled

URL = os.environ["NATS_URL"]


def passed(name):
    print(name, flush=True)


async def soon(what):
    return await asyncio.wait_for(what, 30)


async def main():
    reconnected = asyncio.Event()

    async def on_reconnect():
        reconnected.set()

    client = await nats.connect(URL, reconnected_cb=on_reconnect, reconnect_time_wait=0.05, max_reconnect_attempts=-1)

    sub = await client.subscribe("a.b")
    await client.publish("a.b", b"one")
    message = await sub.next_msg(30)
    assert (message.subject, message.data) == ("a.b", b"one")
    passed("publish")

    star, tail = await client.subscribe("w.*"), await client.subscribe("w.>")
    await client.publish("w.x", b"1")
    await client.publish("w.x.y", b"2")
    assert (await star.next_msg(30)).data == b"1"
    assert [(await tail.next_msg(30)).data for _ in range(2)] == [b"1", b"2"]
    await settled(client)
    assert star.pending_msgs == 0
    passed("wildcards")

    got = []
    everything = asyncio.Event()

    def member(number):
        async def handle(message):
            got.append((number, message.data))
            if len(got) == 200:
                everything.set()

        return handle

    other = await nats.connect(URL)
    for number in range(3):
        await client.subscribe("q", queue="g", cb=member(number))
    await settled(client)
    for number in range(200):
        await other.publish("q", str(number).encode())
    await soon(everything.wait())
    assert len({data for _, data in got}) == 200 and {number for number, _ in got} == {0, 1, 2}
    passed("queue")

    async def serve(message):
        await message.respond(message.data[::-1])

    await other.subscribe("reverse", cb=serve)
    await settled(other)
    assert (await client.request("reverse", b"abc", timeout=30)).data == b"cba"
    passed("request")

    try:
        await client.request("nobody", b"", timeout=30)
        raise AssertionError("nobody answered")
    except NoRespondersError:
        passed("no responders")

    sub = await client.subscribe("h")
    await client.publish("h", b"body", headers={"A": "1", "B": "two words"})
    message = await sub.next_msg(30)
    assert message.headers == {"A": "1", "B": "two words"} and message.data == b"body"
    passed("headers")

    passed("restart")
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    assert line.strip() == "restarted", line
    await soon(reconnected.wait())
    await client.publish("h", b"again")
    assert (await sub.next_msg(30)).data == b"again"
    passed("reconnect")

    count = 0
    drained = asyncio.Event()

    async def slowly(message):
        nonlocal count
        count += 1
        await asyncio.sleep(0)

    async def on_close():
        drained.set()

    draining = await nats.connect(URL, closed_cb=on_close)
    await draining.subscribe("d", cb=slowly)
    await settled(draining)
    # All has been published when another subscriber has seen it.
    seen = await client.subscribe("d")
    for _ in range(500):
        await client.publish("d", b"x")
    for _ in range(500):
        await seen.next_msg(30)
    await draining.drain()
    await soon(drained.wait())
    assert count == 500, count
    passed("drain")


asyncio.run(main())
