"""The results of draws of faulty links: the distribution of step times, and the links in the order of their losses.

Percentiles are over the draws in which the network is connected. Each percentile is a drawn time: the least one that the given
share of these draws does not exceed. Draws that disconnect the network have no time; their share is given beside the percentiles.
An interval contains the true percentile with 95 % confidence, by the ranks that a binomial count allows. If there are too few
draws for an upper end, the interval is open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor, inf, isfinite, nan, sqrt
from typing import Any

import numpy as np

from torussim.fault_sets import Cables, Faults, Kind
from torussim.tables import table
from torussim.topology.check import Floats
from torussim.topology.shape import Indices
from torussim.units import percent, show

QUANTILES = {"median": 0.5, "p95": 0.95, "p99": 0.99}
NORMAL_95 = 1.959963984540054  # standard deviations
SHOWN = 8  # links of the ranking, in text
LISTED = 12  # faults of the worst draw, in text


@dataclass(frozen=True, eq=False)
class Alone:
    """Runs with a single fault. `leader`: (cables,) the first equivalent cable of each; `times`: by (leader, scale), seconds.

    `weights` has the expected number of faults of each scale in a draw.
    """

    leader: Indices
    scales: tuple[float, ...]
    times: Mapping[tuple[int, float], float]
    weights: tuple[float, ...]


@dataclass(frozen=True, eq=False, repr=False)
class FaultDraws:
    """The times of draws of faulty links, seconds, and the losses of single faults; prints itself as a report."""

    name: str
    scenario: Mapping[str, Any]
    timed: str  # "step_s", or "makespan_s" of a bare program
    base_s: float  # without drawn faults
    cables: Cables
    kinds: tuple[Kind, ...]
    seed: int
    drawn: tuple[Faults, ...]
    times: Floats  # (draws,); nan if the network is disconnected
    alone: Alone
    simulated: int  # different sets of faults
    wall_s: float

    # -- the distribution -----------------------------------------------------------------------------------------------

    @cached_property
    def sorted_times(self) -> Floats:
        """The times of the draws with a connected network, in rising order."""
        return np.sort(self.times[~np.isnan(self.times)])

    @property
    def cut(self) -> int:
        """The number of draws that disconnect the network."""
        return len(self.times) - len(self.sorted_times)

    def quantile(self, share: float) -> float | None:
        """Return the least time that this share of the draws does not exceed; None if all draws disconnect the network."""
        count = len(self.sorted_times)
        return float(self.sorted_times[max(ceil(share * count - 1e-9), 1) - 1]) if count else None

    def interval(self, share: float) -> tuple[float, float | None] | None:
        """Return the 95 % confidence interval of the true quantile; None: the draws give no upper end."""
        count = len(self.sorted_times)
        if not count:
            return None
        far = NORMAL_95 * sqrt(count * share * (1 - share))
        low, high = floor(count * share - far), ceil(count * share + far) + 1
        return (float(self.sorted_times[max(low, 1) - 1]),
                float(self.sorted_times[high - 1]) if high <= count else None)

    @cached_property
    def worst(self) -> int | None:
        """The number of the slowest draw, the first of equal ones; None if all disconnect the network."""
        return int(np.nanargmax(self.times)) if len(self.sorted_times) else None

    def links(self, draw: int) -> list[dict[str, Any]]:
        """Return the faults of a draw as entries of `topology.links` in a scenario."""
        found = []
        for change in self.cables.changes(self.drawn[draw]):
            ends = {"from": change.from_, "to": change.to}
            found.append({**ends, "failed": True} if change.failed else {**ends, "scale": change.scale})
        return found

    def loss(self, seconds: float) -> float:
        """Return the relative increase of a time over that without drawn faults; infinite for nan, a disconnected network."""
        return (inf if seconds != seconds else seconds / self.base_s - 1) if self.base_s else 0.0

    # -- the links ------------------------------------------------------------------------------------------------------

    @cached_property
    def losses(self) -> Floats:
        """The loss of each cable, (cables,): of its fault alone, the mean over kinds; nan if none was run."""
        return self._of_leaders[self.alone.leader] if len(self.cables) else np.zeros(0)

    @cached_property
    def _of_leaders(self) -> Floats:
        found = np.full(len(self.cables), nan)
        weight = sum(self.alone.weights)
        for leader in {cable for cable, _ in self.alone.times}:
            if all((leader, scale) in self.alone.times for scale in self.alone.scales):
                losses = [self.loss(self.alone.times[leader, scale]) for scale in self.alone.scales]
                found[leader] = sum(w * loss for w, loss in zip(self.alone.weights, losses)) / weight
        return found

    @cached_property
    def ranking(self) -> list[dict[str, Any]]:
        """The links in falling order of their loss, one of each set of equivalent links, as JSON data."""
        leaders, alike = np.unique(self.alone.leader, return_counts=True)
        known = [(i, leader) for i, leader in enumerate(leaders.tolist()) if not np.isnan(self.losses[leader])]
        order = sorted(known, key=lambda one: (-self.losses[one[1]], one[1]))
        return [self._ranked(leader, int(alike[i])) for i, leader in order]

    def _ranked(self, leader: int, alike: int) -> dict[str, Any]:
        links = self.cables.net.links
        edge, axis = links.edge(int(self.cables.link[leader])), int(links.axis[self.cables.link[leader]])
        ends = [list(end) if isinstance(end, tuple) else str(end) for end in edge]
        kinds = []
        for scale in self.alone.scales:
            seconds = self.alone.times[leader, scale]
            kinds.append({"scale": scale, "loss": _finite(self.loss(seconds)), "step_s": _finite(seconds)})
        return {"cable": leader, "from": ends[0], "to": ends[1], "axis": list(links.axes)[axis] if axis >= 0 else None,
                "alike": alike, "loss": _finite(float(self.losses[leader])), "kinds": kinds,
                "in_draws": self._in_draws.get(leader)}

    @cached_property
    def _in_draws(self) -> dict[int, dict[str, Any]]:
        """By leader: the number of draws with a fault of one of its cables, the mean loss of the connected ones, its error."""
        seen: dict[int, list[float]] = {}
        for faults, seconds in zip(self.drawn, self.times.tolist()):
            for leader in {int(self.alone.leader[cable]) for cable, _ in faults}:
                seen.setdefault(leader, []).append(self.loss(seconds))
        found = {}
        for leader, every in seen.items():
            whole = np.array([one for one in every if isfinite(one)])
            found[leader] = {"draws": len(every), "cut": len(every) - len(whole),
                             "loss": float(whole.mean()) if len(whole) else None,
                             "error": float(whole.std(ddof=1) / sqrt(len(whole))) if len(whole) > 1 else None}
        return found

    # -- as JSON --------------------------------------------------------------------------------------------------------

    @property
    def keys(self) -> dict[str, Any]:
        """All results as JSON data; docs/faults.md gives the meaning of the keys."""
        quantiles = {name: {"time_s": self.quantile(share), "between_s": self.interval(share)}
                     for name, share in QUANTILES.items()}
        worst = None if self.worst is None else {"draw": self.worst, "time_s": float(self.times[self.worst]),
                                                 "links": self.links(self.worst)}
        cuts = np.flatnonzero(np.isnan(self.times))
        cut = {"draws": self.cut, "share": self.cut / len(self.times), "at_most": self.cut_at_most,
               "first": {"draw": int(cuts[0]), "links": self.links(int(cuts[0]))} if len(cuts) else None}
        kinds = [{"scale": kind.scale, "probability" if isinstance(kind.many, float) else "count": kind.many}
                 for kind in self.kinds]
        return {"scenario": self.scenario, "chips": len(self.cables.net.chips), "links": len(self.cables), "kinds": kinds,
                "draws": len(self.times), "seed": self.seed, "timed": self.timed, "base_s": self.base_s, **quantiles,
                "mean_s": float(self.sorted_times.mean()) if len(self.sorted_times) else None, "worst": worst, "cut": cut,
                "without_fault": self.without_fault, "simulated": self.simulated, "ranking": self.ranking,
                "not_ranked": int(np.isnan(self.losses).sum()), "times_s": [_finite(t) for t in self.times.tolist()],
                "wall_s": self.wall_s}

    @property
    def without_fault(self) -> int:
        """The number of draws without faults."""
        return sum(not faults for faults in self.drawn)

    @property
    def cut_at_most(self) -> float | None:
        """The largest probability of a disconnection with 95 % confidence; None if some draws were disconnected."""
        return None if self.cut else 1 - 0.05 ** (1 / len(self.times))

    def json(self) -> str:
        """Return `keys` as JSON, without NaN."""
        return json.dumps(self.keys, indent=1, allow_nan=False)

    # -- as text --------------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        parts = [self._head(), self._distribution(), self._links()]
        if self.worst is not None and self.drawn[self.worst]:
            parts.append(self._pasted(f"The worst draw, {self.worst}: {show(float(self.times[self.worst]), 's')}",
                                      self.drawn[self.worst]))
        elif self.cut:
            first = int(np.flatnonzero(np.isnan(self.times))[0])
            parts.append(self._pasted(f"A draw that cuts the network, {first}", self.drawn[first]))
        return "\n\n".join(part for part in parts if part)

    def _head(self) -> str:
        return (f"{self.name}: {len(self.cables.net.chips):,} chips, {len(self.cables):,} links\n"
                f"{len(self.times):,} draws (seed {self.seed}) of faulty links: {'; '.join(map(str, self.kinds))}")

    def _distribution(self) -> str:
        what = "a step" if self.timed == "step_s" else "the program"
        rows = [("without drawn faults", show(self.base_s, "s", 4), "", "")]
        for name, share in QUANTILES.items():
            if (seconds := self.quantile(share)) is not None:
                rows.append(("median" if name == "median" else f"{percent(share)} of draws take at most", show(seconds, "s", 4),
                             signed(self.loss(seconds)), self._between(share)))
        if self.worst is not None:
            longest = float(self.times[self.worst])
            rows.append(("the worst", show(longest, "s", 4), signed(self.loss(longest)), ""))
        lines = [f"How long {what} takes", table(rows, "lrrl")]
        if self.cut_at_most is None:
            lines.append(f"  {self.cut:,} draws ({percent(self.cut / len(self.times))}) cut the network in two. They have no "
                         "time and are in none of these figures.")
        else:
            lines.append("  No draw cut the network in two. With 95 % confidence, the probability of a cut is below "
                         f"{percent(self.cut_at_most)}.")
        lines.append(f"  {self.without_fault:,} draws have no fault; {self.simulated:,} different sets of faults were simulated.")
        return "\n".join(lines)

    def _between(self, share: float) -> str:
        low, high = self.interval(share) or (0.0, None)
        return (f"(95 % confidence: {show(low, 's', 4)} to {show(high, 's', 4)})" if high is not None
                else f"(95 % confidence: {show(low, 's', 4)} or more; more draws give an upper limit)")

    def _links(self) -> str:
        if not self.ranking:
            return ""
        names = [kind_name(scale) for scale in self.alone.scales]
        rows = [("link", "equivalent", "loss", *(names if len(names) > 1 else ()), "draws", "mean loss in these draws")]
        for one in self.ranking[:SHOWN]:
            kinds = [signed(kind["loss"]) for kind in one["kinds"]] if len(names) > 1 else []
            rows.append((link_name(one), f"{one['alike']:,}", signed(one["loss"]), *kinds,
                         *observed(one["in_draws"])))
        lines = ["The links whose fault alone costs most", table(rows, "lrr" + "r" * (len(rows[0]) - 3))]
        more = len(self.ranking) - SHOWN
        if more > 0:
            lines.append(f"  and {more:,} more, see faults.json")
        if hidden := int(np.isnan(self.losses).sum()):
            lines.append(f"  {hidden:,} links are not ranked: at most as many single faults are simulated as there are draws.")
        return "\n".join(lines)

    def _pasted(self, title: str, faults: Faults) -> str:
        changes = self.cables.changes(faults)
        lines = [f"    - {change}" for change in changes[:LISTED]]
        more = [f"    # and {len(changes) - LISTED:,} more, see faults.json"] if len(changes) > LISTED else []
        return "\n".join([f"{title}. To run it, add to `topology` of the scenario:", "  links:", *lines, *more])


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def signed(loss: float | None) -> str:
    """Return a loss in words; None: there is no time."""
    return "cuts the network" if loss is None or not isfinite(loss) else f"{100 * loss:+z.1f} %"


def observed(found: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return the number of draws with a fault of a link, and the mean loss of the connected ones with its standard error."""
    if found is None:
        return "0", "-"
    if found["loss"] is None:
        return f"{found['draws']:,}", "all cut"
    error = "" if found["error"] is None else f" ± {100 * found['error']:.1f}"
    return f"{found['draws']:,}", f"{100 * found['loss']:+z.1f}{error} %"


def kind_name(scale: float) -> str:
    """Return a kind of fault in words."""
    return f"slow x {scale:g}" if scale else "dead"


def link_name(one: Mapping[str, Any]) -> str:
    """Return a link of the ranking in words."""
    return f"{_node(one['from'])} - {_node(one['to'])}"


def _node(node: Any) -> str:
    return f"({', '.join(map(str, node))})" if isinstance(node, list) else str(node)
