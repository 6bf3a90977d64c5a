"""How a change of a limit reaches many sidecars: all of them following Redis, or a tree of them. A model. Pure.

A sidecar tells its watchers one after the other, which takes ``tell_s`` of its processor for each message; ``hop_s`` after a
message is sent the watcher has it in its table and begins to tell its own. Redis does one thing at a time, too: it pushes a
change to each sidecar that follows it, and each of them reads all of its streams again, since a push doesn't say which field
changed. The first sidecar of a tree reads the streams of all.

What the model leaves out: other work of the same processors, and changes that come faster than they are told, which merge.
"""

from typing import NamedTuple

FIELDS_PER_COMMAND = 512


class Costs(NamedTuple):
    """What the parts take, seconds."""

    change_s: float
    """From HSET until a sidecar that follows Redis has the change, if it reads nothing else."""
    stream_s: float
    """How much later that is for each stream that it reads."""
    push_s: float
    """Redis' processor, for the push to one sidecar."""
    command_s: float
    """Redis' processor, for one command that reads fields."""
    field_s: float
    """Redis' processor, for each of its fields."""
    tell_s: float
    """A sidecar's processor, for one message to a watcher."""
    hop_s: float
    """From sending a message until the watcher has it in its table."""

    def redis_s(self, streams: int) -> float:
        """Returns Redis' processor for one sidecar that follows it and reads so many streams."""
        commands = -(-streams // FIELDS_PER_COMMAND)
        return self.push_s + commands * self.command_s + streams * self.field_s


class Outcome(NamedTuple):
    """What a change costs, and how soon it is known."""

    last_s: float
    """From HSET until the last sidecar has it."""
    messages: int
    """Pushes of Redis and messages of sidecars."""
    redis_s: float
    """Redis' processor."""
    busiest_s: float
    """The sidecar that has most to do: it reads, or it tells."""

    @property
    def most_per_s(self) -> float:
        """How many such changes a second are read and told one by one; those that come faster merge."""
        return 1.0 / max(self.redis_s, self.busiest_s)


def without_tree(sidecars: int, streams: int, costs: Costs) -> Outcome:
    """Returns the outcome of any change if all sidecars follow Redis: each reads its streams, whichever one changed."""
    each_s = costs.redis_s(streams)
    reading_s = streams * costs.stream_s
    last_s = costs.change_s + reading_s + (sidecars - 1) * each_s
    return Outcome(last_s, sidecars, sidecars * each_s, reading_s)


def depth(sidecars: int, fan_out: int) -> int:
    """Returns the number of levels below the first sidecar, if each has at most so many below it."""
    if fan_out == 1:
        return sidecars - 1
    levels, size = 0, 1
    while size < sidecars:
        levels += 1
        size += fan_out**levels
    return levels


def change_of_all(sidecars: int, streams: int, fan_out: int, costs: Costs, trees: int = 1) -> Outcome:
    """Returns the outcome of a change of the wildcard, or of a pattern that all sidecars have streams of, in trees.

    Args:
        sidecars: how many there are; one of each tree follows Redis, and reads the streams of its tree.
        streams: how many streams each of them has.
        fan_out: how many follow the same one, at most.
        costs: the costs.
        trees: into how many trees they are divided.
    """
    in_tree = -(-sidecars // trees)
    has_at = [costs.change_s + _reading_s(in_tree * streams, costs, trees)]
    for number in range(1, in_tree):
        upstream, place = divmod(number - 1, fan_out)
        has_at.append(has_at[upstream] + (place + 1) * costs.tell_s + costs.hop_s)
    told_s = min(fan_out, in_tree - 1) * costs.tell_s
    redis_s = trees * costs.redis_s(in_tree * streams)
    return Outcome(max(has_at), sidecars, redis_s, in_tree * streams * costs.stream_s + told_s)


def change_of_one(sidecars: int, streams: int, fan_out: int, costs: Costs, trees: int = 1) -> Outcome:
    """Returns the outcome of a change of one stream, which one sidecar of the lowest level has: it goes down one way."""
    in_tree = -(-sidecars // trees)
    levels = depth(in_tree, fan_out)
    last_s = costs.change_s + _reading_s(in_tree * streams, costs, trees) + levels * (costs.tell_s + costs.hop_s)
    told_s = costs.tell_s if levels else 0.0
    redis_s = trees * costs.redis_s(in_tree * streams)
    return Outcome(last_s, trees + levels, redis_s, in_tree * streams * costs.stream_s + told_s)


def _reading_s(streams: int, costs: Costs, trees: int) -> float:
    """Returns the time until the slowest reader has its streams: its own time, or that of Redis for the others."""
    return max(streams * costs.stream_s, (trees - 1) * costs.redis_s(streams))
