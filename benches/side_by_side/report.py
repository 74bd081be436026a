"""From the rounds of a row to lines of the table: medians, ratios, and whether a target is met."""

from dataclasses import dataclass
from statistics import median

from load import LIMIT

HEAD = "| what | reference | kival | ratio | target | met |\n| --- | --- | --- | --- | --- | --- |"
# How a figure of a unit is shown: divisor, decimals, words.
UNITS = {
    "/s": (1, 0, "/s"),
    "us": (1, 2, " us"),
    "ms": (1, 3, " ms"),
    "s": (1, 2, " s"),
    "MB/s": (1e6, 0, " MB/s"),
    "bytes": (1, 1, " bytes"),
    "MB": (1e6, 0, " MB"),
    "": (1, 2, ""),
    "count": (1, 0, ""),
}


@dataclass
class Check:
    """One line of the table: the figure `key` of both sides, in `unit`; `target` is an operator and a number.
    The ratio kival / reference is held against it; where `plain`, kival's figure itself."""

    key: str
    words: str
    unit: str
    target: tuple = None
    plain: bool = False
    reference: str = None


def shown(figure, unit):
    if figure is None:
        return "-"
    divisor, decimals, words = UNITS[unit]
    return f"{figure / divisor:,.{decimals}f}{words}"


def medians(rounds):
    """The median of each figure that all rounds have."""
    keys = [key for key in rounds[0] if all(key in figures for figures in rounds)]
    return {key: median(figures[key] for figures in rounds) for key in keys}


def holds(figure, target):
    operator, bound = target
    return figure >= bound if operator == ">=" else figure <= bound


class Result:
    """What came of a row: `rounds` are pairs of figures, the reference's and kival's."""

    def __init__(self, row, rounds):
        self.row, self.rounds = row, rounds
        self.reference = medians([reference for reference, _ in rounds])
        self.kival = medians([kival for _, kival in rounds])
        self.limited = self.kival.get("busy", 0) >= LIMIT

    def judge(self, check):
        """Reference, figure, ratio, and the word for whether the target is met."""
        reference, kival = self.reference.get(check.key), self.kival[check.key]
        ratio = kival / reference if reference else None
        judged = kival if check.plain else ratio
        if check.target is None:
            return reference, kival, ratio, "-"
        if judged is not None and holds(judged, check.target):
            return reference, kival, ratio, "yes"
        # redis-benchmark could not have shown a higher rate.
        decides = any(other.key == "cpu" for other in self.row.checks)
        by_cpu = check.key == "rate" and self.limited and decides
        return reference, kival, ratio, "CPU decides" if by_cpu else "no"

    def lines(self):
        for check in self.row.checks:
            reference, kival, ratio, met = self.judge(check)
            against = check.reference or self.row.reference
            figure = "-" if reference is None else f"{shown(reference, check.unit)} ({against})"
            target = "-" if check.target is None else f"{check.target[0]} {check.target[1]:g}"
            cells = [f"{self.row.what}: {check.words}", figure, shown(kival, check.unit),
                     "-" if ratio is None else f"{ratio:.2f}", target, met]
            yield "| " + " | ".join(cells) + " |"
        if self.limited:
            yield (f"| {self.row.what}: redis-benchmark's own core | - | {self.kival['busy']:.0%} busy | - | - | "
                   "the rate is its limit |")

    def json(self):
        checks = []
        for check in self.row.checks:
            reference, kival, ratio, met = self.judge(check)
            checks.append({"what": check.words, "unit": check.unit, "reference": reference, "kival": kival,
                           "ratio": ratio, "target": check.target, "met": met})
        return {"row": self.row.name, "what": self.row.what, "reference": self.row.reference, "checks": checks,
                "rounds": [{"reference": reference, "kival": kival} for reference, kival in self.rounds]}
