"""Plots of the report, as small SVGs for light and dark pages."""

import io

from matplotlib import pyplot

from .paired import ratio

INK = "#7d8590"
OURS, SCRIPT, OTHER = "#2f81f7", "#d97b29", "#9aa4af"

pyplot.switch_backend("svg")
pyplot.rcParams.update(
    {
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": INK,
        "axes.titlesize": 10,
        "font.family": "sans-serif",
        "font.size": 9,
        "legend.frameon": False,
        "legend.labelcolor": INK,
        "savefig.transparent": True,
        "svg.fonttype": "none",
        "svg.hashsalt": "ratelimit",
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
)


def colour(name):
    if name.startswith(("RATELIMIT", "gateway")):
        return OURS
    return SCRIPT if "Lua" in name else OTHER


def bars(title, values, label="×{:.2f}"):
    """Plots one horizontal bar for each name, the first on top."""
    figure, axes = pyplot.subplots(figsize=(7, 0.6 + 0.26 * len(values)))
    names = list(values)[::-1]
    drawn = axes.barh(
        names, [values[name] for name in names], color=[colour(name) for name in names]
    )
    axes.bar_label(drawn, fmt=label, padding=3)
    axes.margins(x=0.12)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.set_title(title, loc="left")
    return finish(figure)


def lines(title, axis, unit, series, logarithmic=False):
    """Plots one line for each name, over a logarithmic axis of sizes."""
    figure, axes = pyplot.subplots(figsize=(7, 2.8))
    markers = iter("osD^vP" * 2)
    for name, points in series.items():
        axes.plot(
            [float(size) for size in points],
            list(points.values()),
            marker=next(markers),
            markersize=4,
            color=colour(name),
            label=name,
        )
    axes.set_xscale("log")
    if logarithmic:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(axis)
    axes.set_ylabel(unit)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    axes.set_title(title, loc="left")
    return finish(figure)


def finish(figure):
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    # pyplot leaves spaces at the ends of lines.
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines()) + "\n"


def ratios(measured):
    return {name: each["ratio"] for name, each in measured.items()}


def time_ratios(measured):
    return {name: ratio(each) for name, each in measured.items()}


def lengths(results, start, end=" entries"):
    """Returns ratios over the length of a log, of the commands whose names begin with `start`."""
    commands = results["instructions"]["commands"]
    return {
        name.removeprefix(start).removesuffix(end).replace(",", ""): each["ratio"]
        for name, each in commands.items()
        if name.startswith(start)
    }


def all_plots(results):
    """Returns the text of each file by the name of the file."""
    commands = results["instructions"]["commands"]
    shown = {name: each for name, each in commands.items() if not name.endswith(" entries")}
    for name in ("RATELIMIT.SW granted", "RATELIMIT.SW denied"):
        shown[name] = commands[f"{name}, 1,000 entries"]
    for name in ("granted", "denied"):
        lua = f"sliding window log in Lua, {name}"
        shown[lua] = commands[f"{lua}, 1,000 entries"]
    grants = results["memory"]["per_grant"]
    plots = {
        "instructions.svg": bars("Instructions of a call, × INCR", ratios(shown)),
        "length.svg": lines(
            "Instructions of a call by the length of the log, × INCR",
            "entries of the log",
            "× INCR",
            {
                "RATELIMIT.SW granted": lengths(results, "RATELIMIT.SW granted, "),
                "RATELIMIT.SW denied": lengths(results, "RATELIMIT.SW denied, "),
                "Lua, granted": lengths(results, "sliding window log in Lua, granted, "),
                "Lua, denied": lengths(results, "sliding window log in Lua, denied, "),
            },
        ),
        "memory.svg": bars(
            "Memory of a key, × INCR and EXPIRE", ratios(results["memory"]["per_key"])
        ),
        "grants.svg": lines(
            "Memory of a logged grant",
            "grants of a log",
            "bytes",
            {
                name: {size: each[name] for size, each in grants.items()}
                for name in next(iter(grants.values()))
            },
            logarithmic=True,
        ),
    }
    for pipeline, times in results["throughput"]["pipelines"].items():
        title = f"Processor time of a call, pipeline {pipeline}, × INCR"
        plots[f"throughput-{pipeline}.svg"] = bars(title, time_ratios(times))
    for connections, services in results["gateway"]["connections"].items():
        title = f"Processor time of a request, {connections} connections, µs"
        times = {name: each["cpu_us"] for name, each in services.items()}
        plots[f"gateway-{connections}.svg"] = bars(title, times, "{:.1f}")
    return plots
