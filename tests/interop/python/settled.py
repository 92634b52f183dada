"""Waiting for the server with nats-py."""


async def settled(client):
    """Returns when the server has acted on all that the client said.

    nats-py's flush does not tell: its PING overtakes the SUB and PUB lines that still wait to be sent.
    """
    inbox = client.new_inbox()
    sub = await client.subscribe(inbox)
    await client.publish(inbox)
    await sub.next_msg(30)
    await sub.unsubscribe()
