"""Rounds, medians, verdicts and the table: arithmetic without side effects.

A round measures floor, ours, peers, floor.  Its two floor runs tell whether
the machine was the same at both ends: if they differ too much the round says
nothing and is discarded.  A ratio is taken within a round, against the mean
of that round's two floors.
"""

import statistics


def spread(values):
    """Median, least and greatest; None without values."""
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values),
            "max": max(values), "n": len(values)}


def skew(first, second):
    """By how much of their mean two floors differ."""
    return abs(first - second) / ((first + second) / 2)


def ratios(rounds, name, base, key):
    """key of one server over key of another, round by round.  Rounds that
    lack one of the two give nothing."""
    found = []
    for one in rounds:
        if name in one and base in one:
            bottom = [run[key] for run in one[base]]
            top = [run[key] for run in one[name]]
            found.append(statistics.mean(top) / statistics.mean(bottom))
    return found


def collect(play, wanted, max_skew, floor, key, say):
    """Plays rounds until wanted are good, at most three times as many.

    play() returns {server: [runs]}, or raises ValueError if a run was not
    valid.  Returns the good rounds and a list of reasons for the others."""
    good, bad = [], []
    while len(good) < wanted and len(good) + len(bad) < 3 * wanted:
        try:
            one = play()
        except ValueError as error:
            bad.append({"reason": str(error), "valid": False})
            say(f"round discarded: {error}")
            continue
        first, last = one[floor][0][key], one[floor][-1][key]
        if skew(first, last) > max_skew:
            reason = f"floors {first:.3f} and {last:.3f} differ by " \
                     f"{100 * skew(first, last):.1f} %"
            bad.append({"reason": reason, "valid": True})
            say(f"round discarded: {reason}")
        else:
            good.append(one)
            say(f"round {len(good)} of {wanted}")
    return good, bad


def verdict(value, figure, goal, strict=False):
    """Says for a measured value (lower is better) whether the figure and
    the goal were reached.  strict: the figure itself is not enough."""
    if value is None:
        return "not measured"
    words = []
    if figure is not None:
        reached = value < figure if strict else value <= figure
        words.append("reached" if reached else "not reached")
    if goal is not None:
        words.append("goal reached" if value <= goal else "goal not reached")
    return ", ".join(words) or "-"


def measure(row, what, unit, values, requests, figure=None, goal=None,
            strict=False, note=None):
    """One line of the result.  values: one number per round; requests: the
    denominator."""
    got = spread(values)
    return {"row": row, "what": what, "unit": unit, "figure": figure,
            "strict": strict, "goal": goal, "measured": got,
            "requests": requests, "note": note,
            "verdict": verdict(got["median"] if got else None, figure, goal,
                               strict)}


def number(value, unit=""):
    """A number as people write it: 1.25, 250 ms, 201."""
    if value is None:
        return "-"
    if value == int(value) and abs(value) < 1e6 or abs(value) >= 1000:
        text = f"{value:.0f}"
    else:
        text = f"{value:.2f}"
    return f"{text} {unit}".rstrip()


def cells(line):
    """The cells of one line of the table."""
    got = line["measured"]
    sign = "<" if line["strict"] else "<="
    figure = goal = measured = "-"
    if line["figure"] is not None:
        figure = f"{sign} {number(line['figure'], line['unit'])}"
    if line["goal"] is not None:
        goal = f"<= {number(line['goal'], line['unit'])}"
    if got:
        measured = f"{number(got['median'], line['unit'])}"
        if got["n"] > 1:
            measured += f" [{number(got['min'])} to {number(got['max'])}]"
    return [line["row"], line["what"], figure, goal, measured,
            number(line["requests"]), line["verdict"]]


def table(lines):
    """The text table of all lines, with their notes below."""
    rows = [["row", "what", "figure", "goal", "measured", "requests",
             "verdict"]]
    rows += [cells(line) for line in lines]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    text = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths))
            .rstrip() for row in rows]
    notes = dict.fromkeys(f"{line['row']}: {line['note']}" for line in lines
                          if line["note"])
    return "\n".join(text + [""] * bool(notes) + list(notes))
