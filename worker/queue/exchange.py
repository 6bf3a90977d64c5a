"""Sends commands to several servers, in one round trip to each."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import redis
from redis.exceptions import AskError

from worker.queue.cluster import SlotClient


class Request(NamedTuple):
    """A command."""

    client: redis.Redis
    """Of the server, or of the slot, that it is for."""
    words: Sequence[Any]


def exchange(requests: Sequence[Request]) -> list[Any]:
    """Sends commands, and returns for each its reply, or the redis.RedisError that came instead.

    What a node didn't execute because the slot has another one by now is sent there.
    """
    replies: list[Any] = [None] * len(requests)
    groups: dict[int, tuple[redis.Redis, list[int]]] = {}
    for i, (client, _) in enumerate(requests):
        try:
            node = client.node if isinstance(client, SlotClient) else client
        except redis.RedisError as error:
            replies[i] = error
        else:
            groups.setdefault(id(node), (node, []))[1].append(i)
    for node, numbers in groups.values():
        _send(node, requests, numbers, replies)
    for i, (client, words) in enumerate(requests):
        if isinstance(client, SlotClient) and isinstance(replies[i], AskError):
            replies[i] = _alone(client, words)
    return replies


def _send(node: redis.Redis, requests: Sequence[Request], numbers: Sequence[int], replies: list[Any]) -> None:
    """Fills in the replies of one server."""
    if len(numbers) == 1:  # a pipeline of one command would take twice as long
        replies[numbers[0]] = _alone(*requests[numbers[0]])
        return
    pipeline = node.pipeline(transaction=False)
    for i in numbers:
        pipeline.execute_command(*requests[i].words)  # type: ignore[no-untyped-call]
    try:
        for i, reply in zip(numbers, pipeline.execute(raise_on_error=False), strict=True):
            replies[i] = reply
    except redis.RedisError as error:
        for i in numbers:
            replies[i] = error
        client = requests[numbers[0]].client
        if isinstance(client, SlotClient) and isinstance(error, redis.ConnectionError | redis.TimeoutError):
            client.failed(node)


def _alone(client: redis.Redis, words: Sequence[Any]) -> Any:
    try:
        return client.execute_command(*words)  # type: ignore[no-untyped-call]
    except redis.RedisError as error:
        return error
