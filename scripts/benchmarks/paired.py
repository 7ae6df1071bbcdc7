"""Rounds that have each service once, and ratios of two runs of the same round.

A machine becomes faster and slower from second to second. Two runs of the same round meet nearly the
same machine, so that their ratio repeats where their absolute figures do not."""

import statistics

# What a run is compared by: processor time, requests or calls per second, and latency.
COMPARED = ("cpu_us", "per_second", "p99_ms")


def spread(values):
    """Returns the median of some values, and their range."""
    values = list(values)
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def rounds_of(runs, count):
    """Returns rounds of the runs, which are functions by name. Every second round is in the opposite
    order, so that what changes steadily adds to no ratio."""
    names = list(runs)
    rounds = []
    for number in range(count):
        order = names if number % 2 == 0 else names[::-1]
        rounds.append({name: runs[name]() for name in order})
    return rounds


def compared(rounds, bases):
    """Returns the medians of each field by name, and the ratios to the base of each name."""
    measured = {}
    for name, base in bases.items():
        runs = [each[name] for each in rounds]
        measured[name] = {field: statistics.median(run[field] for run in runs) for field in runs[0]}
        measured[name]["base"] = base
        measured[name]["ratios"] = {
            field: spread(each[name][field] / each[base][field] for each in rounds)
            for field in COMPARED
        }
    return measured


def ratio(measured, field="cpu_us"):
    """Returns the median of the ratios of a field."""
    return measured["ratios"][field]["median"]
