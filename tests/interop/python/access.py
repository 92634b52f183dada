"""nats-py with credentials, TLS and WebSocket, against the server that the environment names. Prints what passed."""

import asyncio
import os
import ssl

import nats
from nats.errors import NoServersError
from settled import settled

URL, TLS_URL, WS_URL, WSS_URL = (os.environ[name] for name in ("NATS_URL", "TLS_URL", "WS_URL", "WSS_URL"))


async def exchange(name, url, **options):
    """Two connections with the same credentials hear each other."""
    one = await nats.connect(url, allow_reconnect=False, connect_timeout=20, **options)
    two = await nats.connect(url, allow_reconnect=False, connect_timeout=20, **options)
    sub = await one.subscribe("a.*")
    await settled(one)
    for size in (3, 100_000):
        await two.publish("a.b", b"x" * size)
        assert len((await sub.next_msg(30)).data) == size
    await one.close()
    await two.close()
    print(name, flush=True)


async def refused(name, url, **options):
    try:
        client = await nats.connect(
            url, allow_reconnect=False, connect_timeout=20, max_reconnect_attempts=0, **options
        )
    except (nats.errors.Error, NoServersError, ssl.SSLError, OSError):
        print(name, flush=True)
        return
    await client.close()
    raise AssertionError(f"{name}: it is let in")


async def main():
    trust = ssl.create_default_context(cafile=os.environ["CA_FILE"])
    shown = ssl.create_default_context(cafile=os.environ["CA_FILE"])
    shown.load_cert_chain(os.environ["CLIENT_CERT"], os.environ["CLIENT_KEY"])
    await exchange("user", URL, user="alice", password="secret")
    await exchange("bcrypt", URL, user="hashed", password="s3cret")
    await exchange("nkey", URL, nkeys_seed_str=os.environ["NKEY_SEED"])
    await refused("wrong password", URL, user="alice", password="wrong")
    await refused("no password", URL)
    await exchange("tls", TLS_URL, tls=shown, tls_hostname="localhost", token="t0ken")
    await refused("tls without a certificate", TLS_URL, tls=trust, tls_hostname="localhost", token="t0ken")
    await refused("tls with a wrong token", TLS_URL, tls=shown, tls_hostname="localhost", token="wrong")
    await exchange("websocket", WS_URL, user="alice", password="secret")
    await exchange("websocket over tls", WSS_URL, tls=trust, token="t0ken")


asyncio.run(main())
