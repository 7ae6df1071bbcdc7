"""How a cost grows with a size, and how many processors a rate of calls takes.

Every round measures every size once, and a growth is the median of the ratios of two costs of the same
round."""

import math
import statistics

from . import paired

# A cost is flat when it grows by at most this factor over all sizes.
FLAT = 1.05


def rounds_of(runs, count):
    """Returns rounds of the runs, which are functions by size and name."""
    return paired.rounds_of(
        {(size, name): run for size, calls in runs.items() for name, run in calls.items()}, count
    )


def summarize(rounds):
    """Returns the medians of each field by size and name, and the growth of each name."""
    sizes, names = {}, {}
    for size, name in rounds[0]:
        runs = [each[size, name] for each in rounds]
        medians = {field: statistics.median(run[field] for run in runs) for field in runs[0]}
        sizes.setdefault(str(size), {})[name] = medians
        names.setdefault(name, []).append(size)
    return {
        "sizes": sizes,
        "growth": {name: growth(rounds, name, measured) for name, measured in names.items()},
    }


def growth(rounds, name, sizes):
    """Returns the ratio of the cost at the largest size to that at the smallest one, and the line
    through the ratios over the logarithm of the size: its slope, and the error that it leaves."""
    ratios = {
        size: paired.spread(
            each[size, name]["cpu_us"] / each[sizes[0], name]["cpu_us"] for each in rounds
        )
        for size in sizes
    }
    medians = {size: each["median"] for size, each in ratios.items()}
    slope, error = fit(medians)
    return {
        **ratios[sizes[-1]],
        "largest": max(medians.values()),
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
