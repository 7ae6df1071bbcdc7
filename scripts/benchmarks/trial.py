"""The smaller sizes of a trial, which shows that every part runs and that every page is written. The
figures of a trial mean nothing."""

from gateway.benches import envoy
from gateway.benches import instructions as gateway_instructions
from gateway.benches import scale as gateway_scale
from gateway.benches import throughput as gateway
from module.benches import commands, instructions, memory, throughput, traffic
from module.benches import scale as module_scale

from . import scale

KEYS = 1_000


def shorten():
    """Makes every part measure less."""
    instructions.WARM_UP, instructions.CALLS, instructions.SCRIPT_CALLS = 100, 400, 200
    instructions.ROUNDS = 1
    for lengths in (instructions.LENGTHS, instructions.SCRIPT_LENGTHS):
        lengths.update((entries, min(keys, 5)) for entries, keys in lengths.items())
    throughput.ROUNDS, throughput.KEYS, throughput.SAMPLE = 1, KEYS, 100
    throughput.CALLS = throughput.SCRIPT_CALLS = {1: 2_000, 16: 16_000}
    throughput.CALLS_COMPARED = commands.side_by_side(KEYS)
    memory.KEYS = 50_000
    memory.LENGTHS.update((grants, 2) for grants in memory.LENGTHS)
    traffic.KEYS = 100
    gateway_instructions.ROUNDS = (2, 6)
    gateway_instructions.REQUESTS = 4 * gateway_instructions.CONNECTIONS
    gateway.ROUNDS, gateway.PAIRS, gateway.REQUESTS = 1, 1, 20_000
    gateway.SECONDS = {50: 1, 500: 1}
    envoy.SECONDS = 1
    scale.ROUNDS, gateway_scale.SECONDS = 1, 1
    module_scale.CALLS = {1: 5_000, 16: 20_000}
    scale.PARTS.update(
        (name, (title, sizes[:3], prepare)) for name, (title, sizes, prepare) in scale.PARTS.items()
    )
