"""The answer of one run, and its keys (docs/result_keys.md): it prints itself as a short report, and converts to JSON.

Slow keys are computed at their first use, so that one number does not wait for the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torussim.chips import Chip
from torussim.closed_forms import Charge
from torussim.models import Model
from torussim.shown import display
from torussim.timeline import Timeline
from torussim.units import show
from torussim.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from torussim.scenario import Scenario

NO_ROOM = "DOES NOT FIT in memory"


def counted(chip: Chip, nodes: int) -> dict[str, int]:
    """Return the keys of a result that count its chips, and its cores if these are the nodes of the network.

    >>> from torussim.chips import chip, core_of
    >>> counted(chip("tpu-v4"), 8), counted(core_of(chip("tpu-v7x")), 8)
    ({'chips': 8}, {'chips': 4, 'cores': 8})
    """
    return {"chips": nodes} if chip.part == 1 else {"chips": -(-nodes // chip.part), "cores": nodes}


def nodes_of(keys: Mapping[str, Any]) -> str:
    """Return in words the number of chips of a result, and the number of cores if each is a node."""
    chips = "1 chip" if keys["chips"] == 1 else f"{keys['chips']} chips"
    return chips + (f" with {keys['cores']} cores" if "cores" in keys else "")


def yielded(keys: Mapping[str, Any]) -> str:
    """Return in words the number of tokens that a speculative step yields; nothing of a plain step, which yields one.

    >>> yielded({"scenario": {"workload": {"phase": "decode", "draft": 4, "accepted": 3.1}}})
    ' and yields 4.1 tokens of each sequence'
    """
    workload = keys["scenario"].get("workload", {})
    return f" and yields {1 + workload['accepted']:.4g} tokens of each sequence" if workload.get("draft") else ""


def rates(model: Model, workload: Workload, chip: Chip, chips: int, seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the scalar keys of a result that follow from the seconds of each of its phases; `chips`: nodes of the network.

    >>> from torussim.chips import chip
    >>> from torussim.models import model
    >>> found = rates(model("palm-8b"), Workload("decode", 16, 512, 4), chip("tpu-v4"), 8, {"decode": 0.02})
    >>> found["step_s"], found["tokens_per_s"], found["chip_s_per_token"]
    (0.005, 3200.0, 0.0025)
    >>> drafted = Workload("decode", 16, 512, 4, draft=4, accepted=3.0)
    >>> rates(model("palm-8b"), drafted, chip("tpu-v4"), 8, {"decode": 0.02})["tokens_per_s"]
    12800.0
    """
    prompt, made = workload.batch * workload.context, workload.batch * workload.tokens * workload.yields
    latency = seconds.get("prefill", 0.0) + seconds.get("decode", 0.0)
    tokens = (prompt if "prefill" in seconds else 0) + (made if "decode" in seconds else 0)
    step = seconds["decode"] / workload.tokens if "decode" in seconds else seconds["prefill"]
    found = {"step_s": step, "latency_s": latency, "makespan_s": latency}
    if len(seconds) > 1:
        found |= {"prefill_s": seconds["prefill"], "prompt_tokens_per_s": prompt / seconds["prefill"],
                  "generated_tokens_per_s": made / seconds["decode"]}
    return found | {"tokens_per_s": tokens / latency, "chip_s_per_token": chips / chip.part * latency / tokens,
                    "mfu": 2 * model.used_parameters * tokens / (chips * chip.flops["bf16"] * latency)}


class Later:
    """A value that is computed once, at its first use: the result of a function."""

    def __init__(self, function: Callable[..., Any], *given: Any) -> None:
        self._function, self._given = function, given

    @cached_property
    def value(self) -> Any:
        """The result of the function."""
        return self._function(*self._given)


class Keys(Mapping[str, Any]):
    """Keys in their order, with values that exist or are computed later."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._values = dict(given)

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        return value.value if isinstance(value, Later) else value

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Keys {', '.join(self._values)}>"


def plain(value: Any) -> Any:
    """Return a value with all its keys computed, and dicts for its mappings, as JSON data."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


class Links(Mapping[str, Any]):
    """The key `links` of a result, which draws itself when it is called."""

    def __init__(self, result: Result) -> None:
        self._result = result

    def __call__(self) -> Figure:
        """Return the links of the network, coloured by use, as a matplotlib figure."""
        return display("links_of", self._result)  # type: ignore[no-any-return]

    def __getitem__(self, key: str) -> Any:
        return self._result.keys["links"][key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._result.keys["links"])

    def __len__(self) -> int:
        return len(self._result.keys["links"])


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The result of one scenario: `keys` as in docs/result_keys.md, in seconds, bytes and FLOP, and the data behind them.

    The keys can be read as attributes: `result.step_s`, `result.memory["fits"]`.
    """

    name: str
    keys: Mapping[str, Any]
    timeline: Timeline  # of the last pass
    charged: Later | None = None
    notes: tuple[str, ...] = ()
    asked: Scenario | None = None  # its record is the key `scenario`

    @cached_property
    def charges(self) -> tuple[Charge, ...]:
        """The collectives of the last pass, with the paper's time and the time that their axes allow."""
        return tuple(self.charged.value) if self.charged else ()

    def __getattr__(self, key: str) -> Any:
        keys = self.__dict__.get("keys", {})
        if key in keys:
            return keys[key]
        raise AttributeError(f"a result has no key {key!r}: it has {', '.join(keys)}")

    @property
    def missed(self) -> bool:
        """Whether the result misses an expected value, or does not fit into memory."""
        late = any(e["ok"] is False for e in self.keys.get("expect", ()))
        return late or not self.fits

    @property
    def fits(self) -> bool:
        """Whether the run fits into memory; True for a bare program, which has no memory use."""
        return bool(self.keys.get("memory", {}).get("fits", True))

    @property
    def throughput(self) -> str:
        """Tokens a second in words; for a generation, prompt and generated tokens together."""
        what = "prompt and generated tokens/s" if self.keys["scenario"]["workload"]["phase"] == "generate" else "tokens/s"
        return f"{self.keys['tokens_per_s']:,.0f} {what}"

    def plot(self, *, chips: Sequence[Any] | None = None, blocks: int = 1) -> Figure:
        """Return the timeline of the last pass as a matplotlib figure.

        `chips`: coordinates of those to show, by default those of `answer.shown_chips`; `blocks`: how many blocks.
        """
        return display("timeline_of", self, chips=chips, blocks=blocks)  # type: ignore[no-any-return]

    @property
    def links(self) -> Links:
        """The key `links`; called, `result.links()`, it is a matplotlib figure of the network, coloured by use."""
        if "links" not in self.keys:
            raise AttributeError("a result without links has no key 'links'")
        return Links(self)

    def to_frame(self, what: str = "operations") -> DataFrame:
        """Return a pandas table: "operations" of a block, "timeline" of all chips, or "links".

        Raise TorusSimError where pandas is not installed.
        """
        return display("frame_of", self, what)

    def _repr_html_(self) -> str:
        return str(display("html", self))

    def json(self) -> str:
        """Return all keys as JSON: numbers as they are, no NaN."""
        return json.dumps(plain(self.keys), indent=1, allow_nan=False)

    def __repr__(self) -> str:
        k = self.keys
        partial = f", PARTIAL: {k['partial']['passes']:,} of {k['partial']['of']:,} passes" if "partial" in k else ""
        lines = [f"{self.name}: {nodes_of(k)}" + ("" if self.fits else f", {NO_ROOM}") + partial]
        if "step_s" in k:
            what = "prefill" if k["scenario"]["workload"]["phase"] == "prefill" else "a decode step"
            lines.append(f"  {what} takes {show(k['step_s'], 's')}{yielded(k)}, {self.throughput}, MFU {k['mfu']:.1%}")
            shares = ", ".join(f"{key.replace('_', ' ')} {value / k['step_s']:.0%}" for key, value in k["breakdown_s"].items())
            lines.append(f"  of it {shares}")
        else:
            lines.append(f"  done after {show(k['makespan_s'], 's')}")
        for e in k.get("expect", ()):
            lines.append(f"  {e['what']}: {e['got']:.4g} against {e['value']:.4g} expected, {e['error']:+z.1%}")
        return "\n".join(lines)
