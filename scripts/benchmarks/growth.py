"""How a cost grows with a size, and how many processors a rate of calls takes.

A machine becomes faster and slower from second to second. So every round measures every size once,
and a growth is the median of the ratios of two costs of the same round."""

import math
import statistics

# A cost is flat when it grows by at most this factor over all sizes.
FLAT = 1.05


def rounds_of(runs, count):
    """Returns rounds of the runs, which are functions by size and name. Every second round is in the
    opposite order, so that what changes steadily adds to no ratio."""
    order = [(size, name) for size, calls in runs.items() for name in calls]
    rounds = []
    for number in range(count):
        measured = {size: {} for size in runs}
        for size, name in order if number % 2 == 0 else order[::-1]:
            measured[size][name] = runs[size][name]()
        rounds.append(measured)
    return rounds


def summarize(rounds):
    """Returns the medians of each field by size and name, and the growth of each name."""
    sizes = {
        str(size): {
            name: {
                field: statistics.median(each[size][name][field] for each in rounds)
                for field in calls[name]
            }
            for name in calls
        }
        for size, calls in rounds[0].items()
    }
    return {"sizes": sizes, "growth": {name: growth(rounds, name) for name in common_names(rounds)}}


def common_names(rounds):
    """Returns the names that every size has."""
    sizes = list(rounds[0].values())
    return [name for name in sizes[0] if all(name in calls for calls in sizes)]


def growth(rounds, name):
    """Returns the ratio of the cost at the largest size to that at the smallest one, and the line
    through the ratios over the logarithm of the size: its slope, and the error that it leaves."""
    first, *_, last = rounds[0]
    ratios = {
        size: [each[size][name]["cpu_us"] / each[first][name]["cpu_us"] for each in rounds]
        for size in rounds[0]
    }
    slope, error = fit({size: statistics.median(each) for size, each in ratios.items()})
    return {
        "median": statistics.median(ratios[last]),
        "low": min(ratios[last]),
        "high": max(ratios[last]),
        "largest": max(statistics.median(each) for each in ratios.values()),
        "per_tenfold": slope,
        "error": error,
    }


def fit(points):
    """Fits a line over the decimal logarithm of the sizes. Returns its slope and the root of the
    mean square of what remains, both as parts of the mean."""
    logarithms = [math.log10(size) for size in points]
    values = list(points.values())
    slope, start = statistics.linear_regression(logarithms, values)
    squares = [
        (value - start - slope * logarithm) ** 2
        for logarithm, value in zip(logarithms, values, strict=True)
    ]
    mean = statistics.mean(values)
    return slope / mean, math.sqrt(statistics.mean(squares)) / mean


def verdict(grown):
    if grown["largest"] > FLAT:
        return f"grows to {grown['largest']:.2f} ×"
    return "flat" if grown["median"] >= 1 / FLAT else "falls"


def processors(cost_us, per_second=1_000_000):
    """Returns the processors that run without a pause for this many calls a second."""
    return cost_us * per_second / 1e6
