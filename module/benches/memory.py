"""Growth of used_memory for each key and for each logged grant."""

from scripts.benchmarks.servers import Failure, Redis

from . import commands
from .leases import holder, whole_leases
from .logs import HOUR, grant_times, one_grant, sorted_set

KEYS = 1_000_000
LENGTHS = {100: 1_000, 1_000: 100, 10_000: 20, 100_000: 5}  # grants of a log: logs
PER_TICK = 10

LOOP = """for number = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  local key = string.format('key:%012d', number)
  {}
end"""
FILLS = {
    "INCR and EXPIRE": "redis.call('INCR', key) redis.call('EXPIRE', key, 3600)",
    "SET EX": "redis.call('SET', key, '12345678', 'EX', 3600)",
    "RATELIMIT.TB": "redis.call('RATELIMIT.TB', key, 100, 3600, 'COST', 50)",
}


def grown(fill, expected):
    """Returns the growth of a new server in bytes after `fill`."""
    with Redis() as server:
        before = server.client.info("memory")["used_memory"]
        fill(server)
        if server.client.dbsize() != expected:
            raise Failure(f"{server.client.dbsize()} keys instead of {expected}")
        return server.client.info("memory")["used_memory"] - before


def loop(name, keys):
    """Returns a fill by a script in the server, which makes a part of the keys at a time."""

    def fill(server):
        for first in range(0, keys, 10_000):
            last = min(first + 10_000, keys) - 1
            server.client.eval(LOOP.format(FILLS[name]), 0, first, last)
        server.client.script_flush()

    return fill


def script_hashes(keys):
    def fill(server):
        sha = server.load_script(commands.TOKEN_BUCKET)
        # Two calls, because the used amount is a fraction from the second call on.
        for _ in range(2):
            names = (f"key:{number:012d}" for number in range(keys))
            server.pipeline(("EVALSHA", sha, 1, name, 100, 3600, 25) for name in names)
        server.client.script_flush()

    return fill


def bytes_per_key(keys):
    measured = {name: grown(loop(name, keys), keys) / keys for name in FILLS}
    measured["token bucket in Lua"] = grown(script_hashes(keys), keys) / keys
    base = measured["INCR and EXPIRE"]
    return {name: {"bytes": each, "ratio": each / base} for name, each in measured.items()}


def logs(logs_of, times):
    """Returns a fill by grants of one unit each, one after another."""

    def fill(server):
        grants = [one_grant(granted) for granted in times]
        for number in range(logs_of):
            server.pipeline(("RATELIMIT.APPLY", f"log:{number}", grant) for grant in grants)
            units = server.client.execute_command(
                "RATELIMIT.PEEK", f"log:{number}", "SW", commands.LIMIT, HOUR
            )[2]
            if units != commands.LIMIT - len(times):
                raise Failure(f"a log of {commands.LIMIT - units} grants instead of {len(times)}")

    return fill


def sorted_sets(sets, times):
    def fill(server):
        words = sorted_set(times)
        for number in range(sets):
            for first in range(0, len(words), 200):
                server.client.execute_command("ZADD", f"set:{number}", *words[first : first + 200])
            server.client.expire(f"set:{number}", HOUR)

    return fill


def bytes_per_grant():
    measured = {}
    for grants, keys in LENGTHS.items():
        times = grant_times(grants)
        shared = [time for time in grant_times(grants // PER_TICK) for _ in range(PER_TICK)]
        measured[str(grants)] = {
            "RATELIMIT.SW": grown(logs(keys, times), keys) / keys / grants,
            "RATELIMIT.SW, shared ticks": grown(logs(keys, shared), keys) / keys / grants,
            "sliding window log in Lua": grown(sorted_sets(keys, times), keys) / keys / grants,
        }
    return measured


def bytes_per_lease(leases=1_000, keys=100):
    """Returns the growth for each live lease of a key, without the bytes of its holder."""
    made = whole_leases(leases)

    def fill(server):
        for number in range(keys):
            server.client.execute_command("RATELIMIT.APPLY", f"jobs:{number}", made)

    return grown(fill, keys) / keys / leases - len(holder(0))


def measure():
    return {
        "keys": KEYS,
        "grants_per_tick": PER_TICK,
        "per_key": bytes_per_key(KEYS),
        "per_grant": bytes_per_grant(),
        "per_lease": bytes_per_lease(),
    }
