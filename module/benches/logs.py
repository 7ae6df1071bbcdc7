"""Sliding window logs of any length, made fast: by the command that replicates grants, and as the
sorted set of the script for comparison."""

import random
import time

DAY = 86_400  # seconds: a usual window, which no grant leaves during a run
HOUR = 3_600


def varint(number):
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def grant_times(entries):
    """Returns times in microseconds, in order, spread over the last 54 minutes; each time has a
    millisecond of its own, so that no two times share an entry. A machine that takes six minutes for
    the grants finds all of them within an hour."""
    now = int(time.time() * 1e3)
    spread = random.Random(entries).sample(range(HOUR * 900), entries)
    return sorted(1_000 * (now - millis) for millis in spread)


def payload(kind, window, fields):
    """Returns the payload of RATELIMIT.APPLY: the expiry of the key, version 1, and the change."""
    expiry = int(time.time() * 1e3) + window * 1_000
    encoded = b"".join(varint(field) for field in fields)
    return expiry.to_bytes(8, "big") + bytes([1, kind]) + encoded


def whole_log(times, window=DAY):
    """Returns the payload that makes a key a log of grants of one unit each."""
    fields, last = [window * 1_000], 0
    for granted in times:
        fields += [granted - last, 1]
        last = granted
    return payload(2, window, fields)


def one_grant(granted, window=HOUR):
    """Returns the payload that adds one unit to a log."""
    return payload(3, window, [granted, window * 1_000, 1])


def sorted_set(times):
    """Returns the arguments after the key with which ZADD makes the script's sorted set."""
    return [word for granted in times for word in (granted, granted)]
