"""Keys with any number of leases, made fast: by the command that replicates leases."""

import itertools
import time

from .logs import HOUR, varint

LEASES = 12  # the kind of the codec


def holder(number):
    return b"worker:%09d" % number


def whole_leases(leases, ttl=HOUR):
    """Returns the payload that makes a key hold this number of leases of one unit each, with the
    holders of the first numbers."""
    now = int(time.time() * 1e6)
    encoded, step = bytearray([2, LEASES]), now + ttl * 1_000_000
    for number in range(leases):
        fields = [step, ttl * 1_000, 1, now + number, len(holder(number))]
        encoded += b"".join(varint(field) for field in fields) + holder(number)
        step = 1_000
    expiry = int(time.time() * 1e3) + 2 * ttl * 1_000
    return expiry.to_bytes(8, "big") + bytes(encoded)


def new_holders(first):
    """Returns a function that returns the next holder: each holder is another one."""
    numbers = itertools.count(first)
    return lambda: holder(next(numbers))
