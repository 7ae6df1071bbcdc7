"""The calls that are compared: each with keys on which the call has the outcome in its name, and
with a check of its reply."""

from dataclasses import dataclass

from .leases import holder, new_holders, whole_leases
from .logs import DAY, grant_times, sorted_set, whole_log

TOKEN_BUCKET = "module/benches/token_bucket.lua"
SLIDING_WINDOW_LOG = "module/benches/sliding_window_log.lua"
LIMIT = 5_000_000  # of a log: never reached
BUCKET_LIMIT = 10_000  # never reached, and too few for a bucket to be full again between two calls


def granted(reply):
    return reply[0] == 1


def denied(reply):
    return reply[0] == 0


@dataclass(frozen=True)
class Call:
    """A command with "KEY" in place of its key or at the begin of its keys, and with functions in
    place of words that are different in each call; `fill` makes each key, unless it is None. A call
    that is not made at random times has the seconds between two calls on a key. Calls come in
    pipelines, unless each is `alone`."""

    name: str
    words: tuple
    answers: object = None
    fill: object = None
    keys: int = 1_000
    interval: float = None
    alone: bool = False

    def on(self, key, scripts):
        words = (word() if callable(word) else word for word in self.words)
        return [
            key + word[len("KEY") :] if str(word).startswith("KEY") else scripts.get(word, word)
            for word in words
        ]

    def prepare(self, server, scripts, keys):
        for key in keys:
            if self.fill == "once":
                server.client.execute_command(*self.on(key, scripts))
        if callable(self.fill):
            server.pipeline((self.fill(key) for key in keys), batch=10)


def bucket(name, limit, answers, fill=None):
    return Call(name, ("RATELIMIT.TB", "KEY", limit, DAY), answers, fill)


def script(name, path, limit, answers, **more):
    return Call(name, ("EVALSHA", path, 1, "KEY", limit, DAY, 1), answers, **more)


def log_of(entries):
    """Returns a function that makes a key a log of this many entries, with the same bytes."""
    made = whole_log(grant_times(entries))
    return lambda key: ("RATELIMIT.APPLY", key, made)


def set_of(entries):
    members = sorted_set(grant_times(entries))
    return lambda key: ("ZADD", key, *members)


def load_scripts(server):
    return {path: server.load_script(path) for path in (TOKEN_BUCKET, SLIDING_WINDOW_LOG)}


PING = Call("PING", ("PING",))
INCR = Call("INCR", ("INCR", "KEY"))
SET = Call("SET EX", ("SET", "KEY", "12345678", "EX", 60))
TB_GRANTED = bucket("RATELIMIT.TB granted", BUCKET_LIMIT, granted)
# A bucket that is whole again before each call.
TB_SHORT_LIVED = Call(
    "RATELIMIT.TB granted, 100 a minute, called once a second",
    ("RATELIMIT.TB", "KEY", 100, 60),
    granted,
    "once",
    keys=2_000,
    interval=1,
)
TB_ALONE = Call("RATELIMIT.TB granted, without a pipeline", TB_GRANTED.words, granted, alone=True)
MULTI_ALONE = Call(
    "RATELIMIT.MULTI of three limits granted, without a pipeline",
    (
        *("RATELIMIT.MULTI", 3, "KEY", "KEY:hour", "KEY:day"),
        *("TB", BUCKET_LIMIT, DAY) * 3,
    ),
    granted,
    alone=True,
)
TB_DENIED = bucket("RATELIMIT.TB denied", 1, denied, "once")
PEEK = Call(
    "RATELIMIT.PEEK",
    ("RATELIMIT.PEEK", "KEY", "TB", BUCKET_LIMIT, DAY),
    granted,
    lambda key: ("RATELIMIT.TB", key, BUCKET_LIMIT, DAY),
)
LUA_TB_GRANTED = script("token bucket in Lua, granted", TOKEN_BUCKET, BUCKET_LIMIT, granted)
LUA_TB_DENIED = script("token bucket in Lua, denied", TOKEN_BUCKET, 1, denied, fill="once")


def log_calls(entries, keys):
    """Returns calls with both outcomes on logs with this number of entries."""
    fill = log_of(entries)
    words = ("RATELIMIT.SW", "KEY")
    return [
        Call("RATELIMIT.SW denied", (*words, entries, DAY), denied, fill, keys),
        Call("RATELIMIT.SW granted", (*words, LIMIT, DAY), granted, fill, keys),
    ]


def lease_calls(leases, keys):
    """Returns calls with every outcome on keys with this number of live leases, or a few more."""
    made = whole_leases(leases)

    def fill(key):
        return "RATELIMIT.APPLY", key, made

    acquire = ("RATELIMIT.ACQUIRE", "KEY")
    new, own = new_holders(leases), holder(leases // 2)
    return [
        Call("RATELIMIT.ACQUIRE denied", (*acquire, leases, DAY, new), denied, fill, keys),
        Call("RATELIMIT.ACQUIRE granted", (*acquire, LIMIT, DAY, new), granted, fill, keys),
        Call("RATELIMIT.ACQUIRE repeated", (*acquire, LIMIT, DAY, own), granted, fill, keys),
        Call("RATELIMIT.RENEW", ("RATELIMIT.RENEW", "KEY", DAY, own), None, fill, keys),
    ]


def script_log_calls(entries, keys):
    more = {"fill": set_of(entries), "keys": keys}
    name = "sliding window log in Lua"
    return [
        script(f"{name}, denied", SLIDING_WINDOW_LOG, entries, denied, **more),
        script(f"{name}, granted", SLIDING_WINDOW_LOG, LIMIT, granted, **more),
    ]


def side_by_side(keys):
    """Returns the calls of every kind to compare, with short logs in this number of keys."""
    return [
        INCR,
        SET,
        TB_GRANTED,
        TB_DENIED,
        *log_calls(10, keys),
        LUA_TB_GRANTED,
        LUA_TB_DENIED,
        *script_log_calls(10, keys),
    ]
