"""The check that a schedule keeps the contract of its collective: a playback that counts contributions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from torussim.collectives.contract import Hop, Lane, Phase, Schedule, chips_of
from torussim.collectives.form import check_form
from torussim.collectives.unequal import hop_bytes
from torussim.errors import ContractError

MOST = 2e9  # bytes that a check may take


@dataclass(frozen=True)
class Transfer:
    """One message between neighbours, written out: chips are coordinates in the order of Schedule.lengths."""

    sender: tuple[int, ...]
    receiver: tuple[int, ...]
    position: int  # of the sender on the lane


def transfers(schedule: Schedule, phase: Phase, hop: Hop) -> Iterator[Transfer]:
    """Yield the messages of one hop on every line of the phase's lane."""
    length, names = phase.pattern.length, list(schedule.lengths)
    for chip in chips_of(schedule):
        here = dict(zip(names, chip))
        i = phase.lane.position(here)
        if not hop.halves[i]:
            continue
        if not phase.pattern.ring and not 0 <= i + hop.sign < length:
            raise ContractError(f"{schedule.kind}: chip {chip} sends over the end of a line")
        yield Transfer(chip, onwards(schedule, phase.lane, chip, hop.sign, length), i)


def onwards(schedule: Schedule, lane: Lane, chip: tuple[int, ...], places: int, length: int) -> tuple[int, ...]:
    """Return the chip this many places further along its lane, going round; on a twisted ring it can be in another row."""
    here = dict(zip(schedule.lengths, chip))
    turns, j = divmod(lane.position(here) + places, length)
    here |= dict(zip(lane.axes, lane.order[j] if lane.order else (j,)))
    for other, shift in schedule.twist.get(lane.axes[0], {}).items() if lane.order is None else ():
        here[other] = (here[other] + turns * shift) % schedule.lengths[other]
    return tuple(here.values())


class _Part:
    """The data on the chips for one part of a collective, while its phases are played back one after another.

    `held` counts contributions: (chips, blocks, 2 halves, contributors). A block is a shard; in an all-to-all it is (origin,
    destination), as origin * chips + destination.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule, self.chips = schedule, chips_of(schedule)
        self.index = {chip: c for c, chip in enumerate(self.chips)}
        n = len(self.chips)
        self.held = np.zeros((n, n * n if schedule.kind == "all_to_all" else n, 2, n), dtype=np.int64)
        for c in range(n):
            mine = {"all_gather": slice(c, c + 1), "permute": slice(c, c + 1), "all_to_all": slice(c * n, (c + 1) * n)}
            self.held[c, mine.get(schedule.kind, slice(None)), :, c] = 1
        self.size = _block_bytes(schedule)  # of each block of the group
        self.sent: dict[Hop, Any] = {}  # the bytes of each hop of a phase with a flow, by chip
        self.visited: set[str] = set()
        self.sizes: list[float] = []  # for each message, the bytes of half a block of the group
        self.last = [{(c, half) for half in (0, 1)} for c in range(n)]  # (block, half) that arrived with the last permute

    def run(self, phases: list[Phase]) -> None:
        """Play phases back in order."""
        if self.schedule.twist:
            self.kept = self.kept_after([p for p in phases if p.pattern.role == "scatter"])
        names = list(self.schedule.lengths)
        for phase in phases:
            self.at = np.array([phase.lane.position(dict(zip(names, chip))) for chip in self.chips])
            if phase.pattern.role == "permute":
                self.permute(phase)
            else:
                self.pass_on(phase)
            self.visited |= set(phase.lane.axes)

    def pass_on(self, phase: Phase) -> None:
        """Play one phase back in which blocks are copied (gather), added up (scatter) or moved (exchange)."""
        start = self.held.any(axis=3)
        if phase.flow is not None:
            lengths = self.schedule.lengths
            bytes_ = hop_bytes(phase.pattern, phase.flow, list(lengths.values()), list(lengths).index(phase.lane.axes[0]))
            self.sent = dict(zip(phase.pattern.hops, bytes_))
        under_way: dict[tuple[int, int], list[tuple[Hop, int, Any, Any]]] = {}  # by receiver and sign
        for hop in sorted(phase.pattern.hops, key=lambda h: (h.step, -h.sign)):
            sent: list[tuple[Hop, int, Any, Any]] = []
            for transfer in transfers(self.schedule, phase, hop):
                # Messages before step `after` on the same way have arrived, too; if that step sends none, none is needed.
                coming = under_way.get((self.index[transfer.sender], hop.sign), [])
                if any(one[0].step == hop.after for one in coming):
                    while coming and coming[0][0].step <= (hop.after or 0):
                        self.arrive(phase, *coming.pop(0))
                sent.append((hop, *self.send(phase, hop, transfer, start)))
            for one in sent:
                under_way.setdefault((one[1], hop.sign), []).append(one)
        for message in (message for coming in under_way.values() for message in coming):
            self.arrive(phase, *message)

    def send(self, phase: Phase, hop: Hop, transfer: Transfer, start: Any) -> tuple[int, Any, Any]:
        """Take the data of a transfer from its sender; return the receiver, the (block, half) rows and their counts."""
        sender, chunks = self.index[transfer.sender], hop.chunks(transfer.position)
        if len(chunks) != hop.halves[transfer.position]:
            raise ContractError(f"{self.schedule.kind}: chip {transfer.sender} sends in phase {phase.index}, step {hop.step} "
                                f"{len(chunks)} halves of blocks, not {hop.halves[transfer.position]} as it says")
        what = np.array([(block, half) for tag, half in chunks
                         for block in (self.turned(sender, phase, hop.sign, tag[0], half, start) if self.schedule.twist
                                       else self.blocks(sender, phase, tag, start.any(axis=2)))])
        counts = self.held[sender, what[:, 0], what[:, 1]].copy() if len(what) else what
        if not len(what) or not counts.any(axis=1).all():
            raise ContractError(f"{self.schedule.kind}: chip {transfer.sender} sends in phase {phase.index}, step {hop.step} "
                                f"what it does not have")
        if phase.pattern.role != "gather":
            self.held[sender, what[:, 0], what[:, 1]] = 0
        if phase.flow is None:
            self.sizes.append(len(chunks) * phase.block / 2 / len(what))
        else:
            self.share(self.sent[hop][sender], float(self.size[what[:, 0]].sum()) / 2, transfer)
        return self.index[transfer.receiver], what, counts

    def share(self, sent: float, whole: float, transfer: Transfer) -> None:
        """Note the bytes of half a mean block, in a message of which the group as a whole has `whole` bytes."""
        if whole == 0 and sent != 0:
            raise ContractError(f"{self.schedule.kind}: chip {transfer.sender} sends {sent:g} bytes of blocks without bytes")
        if whole > 0:
            self.sizes.append(sent / whole * self.schedule.bytes / len(self.chips) / 2)

    def arrive(self, phase: Phase, hop: Hop, receiver: int, what: Any, counts: Any) -> None:
        """Add the data of a transfer to its receiver."""
        had = self.held[receiver, what[:, 0], what[:, 1]]
        if phase.pattern.role == "gather" and had.any():
            raise ContractError(f"{self.schedule.kind}: chip {self.chips[receiver]} gets block {what[had.any(axis=1)][0][0]} "
                                f"twice (phase {phase.index}, step {hop.step})")
        np.add.at(self.held, (receiver, what[:, 0], what[:, 1]), counts)  # += would count a repeated row once

    def blocks(self, sender: int, phase: Phase, tag: tuple[int, ...], start: Any) -> list[int]:
        """Return the blocks of the group that a block of the lane stands for, as seen from its sender.

        In a gather: the blocks of position `tag` that the line has gathered over earlier axes. In a scatter: the blocks that
        later axes will separate. In an exchange: the blocks that the origin held at the start for the position of the
        destination.
        """
        names = list(self.schedule.lengths)
        others = [a for a in names if a not in phase.lane.axes]
        if phase.pattern.role == "exchange":
            (origin,) = np.flatnonzero((self.at == tag[0]) & self.same(sender, others))
            mine: list[int] = [int(b) for b in np.flatnonzero(start[origin]) if self.at[b % len(self.chips)] == tag[1]]
            return mine
        fixed = [a for a in others if (a in self.visited) == (phase.pattern.role == "scatter")]
        return [int(b) for b in np.flatnonzero((self.at == tag[0]) & self.same(sender, fixed))]

    def turned(self, sender: int, phase: Phase, sign: int, tag: int, half: int, start: Any) -> list[int]:
        """Return the same on a twisted ring, where a turn leads to another row: the blocks of the chip at the far end.

        In a gather the far end is the origin: the blocks that it had at the start. In a scatter the far end is the destination:
        the blocks that it has to keep or to pass on.
        """
        end = self.far_end(sender, phase, sign, tag)
        of_end = start[end] if phase.pattern.role == "gather" else self.kept[phase.index][end]
        return [int(b) for b in np.flatnonzero(of_end[:, half])]

    def far_end(self, sender: int, phase: Phase, sign: int, tag: int) -> int:
        """Return the chip at position `tag` where a message starts (gather) or ends (scatter) in direction `sign`."""
        length, towards = phase.pattern.length, -sign if phase.pattern.role == "gather" else sign
        position = phase.lane.position(dict(zip(self.schedule.lengths, self.chips[sender])))
        places = towards * ((tag - position) * towards % length)
        return self.index[onwards(self.schedule, phase.lane, self.chips[sender], places, length)]

    def kept_after(self, scatters: list[Phase]) -> dict[int, Any]:
        """Return, for each phase of a reduce-scatter, the blocks that a chip keeps or passes on after it, (chips, blocks, 2)."""
        keeps = np.repeat(np.eye(len(self.chips), dtype=bool)[:, :, None], 2, axis=2)
        found = {}
        for phase in reversed(scatters):
            found[phase.index] = keeps
            before = keeps.copy()
            for hop in phase.pattern.hops:
                for transfer in transfers(self.schedule, phase, hop):
                    sender = self.index[transfer.sender]
                    for (tag, *_), half in hop.chunks(transfer.position):
                        before[sender, :, half] |= keeps[self.far_end(sender, phase, hop.sign, tag), :, half]
            keeps = before
        return found

    def same(self, chip: int, axes: list[str]) -> Any:
        """Return (chips,) whether a chip has the coordinates of `chip` on these axes."""
        columns = [list(self.schedule.lengths).index(a) for a in axes]
        coordinates = np.array(self.chips)[:, columns]
        return (coordinates == coordinates[chip]).all(axis=1)

    def permute(self, phase: Phase) -> None:
        """Play one permute back: the data that arrived last move on, hop by hop; in an all-gather each chip keeps a copy."""
        place = {(c, half): c for c in range(len(self.chips)) for half in (0, 1)}  # (origin, half) -> chip
        brought: dict[tuple[int, int], Hop] = {}  # the hop that carried it there
        others = [a for a in self.schedule.lengths if a not in phase.lane.axes]
        for hop in sorted(phase.pattern.hops, key=lambda h: (h.step, -h.sign)):
            for transfer in transfers(self.schedule, phase, hop):
                chunks = hop.chunks(transfer.position)
                if len(chunks) != hop.halves[transfer.position]:
                    raise ContractError(f"{self.schedule.kind}: chip {transfer.sender} sends in step {hop.step} not as much "
                                        f"as it says")
                for (origin, _), half in chunks:
                    line = self.same(self.index[transfer.sender], others)
                    message = int(np.flatnonzero(line & (self.at == origin))[0])
                    came_with = brought.get((message, half))
                    early = came_with is not None and (came_with.sign, came_with.step) != (hop.sign, hop.after)
                    if place[message, half] != self.index[transfer.sender] or early:
                        raise ContractError(f"{self.schedule.kind}: chip {transfer.sender} passes on in step {hop.step} "
                                            f"what it does not have")
                    place[message, half], brought[message, half] = self.index[transfer.receiver], hop
                    self.sizes.append(phase.block / 2)
        came: list[set[tuple[int, int]]] = [set() for _ in self.chips]
        before = self.held.copy()
        if self.schedule.kind == "permute":
            self.held[:] = 0
        for (start, half), chip in place.items():
            for block, part in self.last[start]:
                if part == half:
                    came[chip].add((block, half))
                    self.held[chip, block, half] += before[start, block, half]
        self.last = came


def _stepped(schedule: Schedule) -> Any:
    """Return the data on the chips after routed steps: counts of contributions, (chips, blocks, contributors); see `_Part.held`.

    A shard has as many blocks as the steps cut it into.
    """
    n, kind, cut = schedule.chips, schedule.kind, schedule.steps[0].cut
    shards = {"all_to_all": n * n, "broadcast": 1, "reduce": 1, "send": 1}.get(kind, n)
    held = np.zeros((n, shards * cut, n), dtype=np.int64)
    for c in range(n):
        mine = {"all_gather": slice(c, c + 1), "permute": slice(c, c + 1), "gather": slice(c, c + 1),
                "all_to_all": slice(c * n, (c + 1) * n)}.get(kind, slice(0, shards))
        if c == schedule.root or kind not in ("broadcast", "scatter", "send"):
            held[c, mine.start * cut:mine.stop * cut, c] = 1
    unit = _block_bytes(schedule) / cut
    for number, step in enumerate(schedule.steps):
        where = f"{kind} ({schedule.algorithm})"
        if step.cut != cut:
            raise ContractError(f"{where}: step {number} cuts a shard into {step.cut} blocks, and others into {cut}")
        targets = step.targets(list(schedule.lengths.values()))
        part = np.broadcast_to(1.0 if step.part is None else step.part, targets.shape)
        sends = [(p, int(to), step.blocks(m, p, int(to)), step.size * part[m, p]) for m, row in enumerate(targets)
                 for p, to in enumerate(row) if to >= 0]
        coming = []
        for sender, to, blocks, size in sends:
            counts = held[sender, blocks].copy()
            if step.role == "ready" and not len(blocks) and size == 0:
                continue
            if not len(blocks) or not counts.any(axis=1).all():
                raise ContractError(f"{where}: chip {sender} sends in step {number} what it does not have")
            if abs(size - sum(unit[block // cut] for block in blocks)) > 1e-9 * schedule.bytes:
                raise ContractError(f"{where}: chip {sender} sends in step {number} {len(blocks)} blocks of "
                                    f"{unit[blocks[0] // cut]:g} bytes, not {size:g} bytes as it says")
            coming.append((to, blocks, counts))
        if step.role not in ("gather", "sum"):
            for sender, _, blocks, _ in sends:
                held[sender, blocks] = 0
        if step.role == "in_network":  # the sum over all chips, made in the switches
            ends = [sorted(end) for end in zip(*((sender, to) for sender, to, _, _ in sends))]
            if ends != [list(range(n))] * 2:
                raise ContractError(f"{where}: in step {number} the switches get what chips {ends[0]} have, and give the sum to "
                                    f"{ends[-1]}: each chip must send and get it once")
            total = np.sum([counts for _, _, counts in coming], axis=0)
            coming = [(to, blocks, total) for to, blocks, _ in coming]
        for to, blocks, counts in coming:
            if step.role == "gather" and held[to, blocks].any():
                raise ContractError(f"{where}: chip {to} gets in step {number} what it has")
            held[to, blocks] += counts
        if step.role == "scatter" and number + 1 < len(schedule.steps) and schedule.steps[number + 1].role == "gather":
            held[~np.eye(n, dtype=bool)] = 0  # unfinished sums are dropped
    return held


def _block_bytes(schedule: Schedule) -> Any:
    """Return the bytes of each block of a group, (blocks,), as they are numbered in `_Part.held`."""
    if schedule.matrix is not None:
        return schedule.matrix.ravel()
    n = schedule.chips
    blocks = {"all_to_all": n * n, "broadcast": 1, "reduce": 1, "send": 1}.get(schedule.kind, n)
    return np.full(blocks, schedule.bytes / {"all_to_all": n, "permute": 1}.get(schedule.kind, blocks))


def check(schedule: Schedule) -> None:
    """Raise ContractError, with a witness, unless every shard arrives and each contribution counts exactly once.

    The counts take 16 bytes x chips^3 (an all-to-all: chips^4). A group that would need more than MOST bytes is refused.
    """
    size = 16 * schedule.chips ** (4 if schedule.kind == "all_to_all" else 3)
    if size > MOST:
        raise ContractError(f"{schedule.kind} ({schedule.algorithm}): a group of {schedule.chips} chips is too large to be "
                            f"checked: try the algorithm on a smaller one")
    if schedule.steps:
        _delivered(schedule, np.repeat(_stepped(schedule)[:, :, None], 2, axis=2), 0)
        return
    check_form(schedule)
    chips, every, total = chips_of(schedule), np.arange(schedule.chips), 0.0
    for part in sorted({p.part for p in schedule.phases}):
        state = _Part(schedule)
        phases = sorted((p for p in schedule.phases if p.part == part), key=lambda p: p.index)
        scatters = [p for p in phases if p.pattern.role == "scatter"] if schedule.kind == "all_reduce" else []
        state.run(scatters)
        if scatters:  # unfinished sums are dropped
            state.held[every[:, None] != every] = 0
            state.visited = set()
        state.run(phases[len(scatters):])
        sizes = np.array(state.sizes)
        if sizes.size and np.ptp(sizes) > 1e-9 * sizes.max():
            raise ContractError(f"{schedule.kind} ({schedule.algorithm}): half a block is {sizes.min():g} bytes in one message "
                                f"of part {part}, {sizes.max():g} in another: set Phase.block to what a block of its lane holds")
        total += 2 * sizes.max(initial=0.0) * (1 if schedule.kind == "permute" else len(chips))
        _delivered(schedule, state.held, part)
    still = schedule.kind == "permute" and not any(schedule.shift.get(a, 0) % n for a, n in schedule.lengths.items())
    if len(chips) > 1 and not still and abs(total - schedule.bytes) > 1e-9 * schedule.bytes:
        raise ContractError(f"{schedule.kind} ({schedule.algorithm}): the parts hold {total:g} bytes in all instead of "
                            f"{schedule.bytes:g}: set Phase.block to what a block of its lane holds")


def _delivered(schedule: Schedule, got: Any, part: int) -> None:
    """Raise ContractError unless the data on the chips keep the contract of the collective; counts as in `_Part.held`."""
    chips, every, want = chips_of(schedule), np.arange(schedule.chips), np.zeros_like(got)
    for c, chip in enumerate(chips):
        if schedule.kind == "all_gather":
            want[c, every, :, every] = 1
        elif schedule.kind == "reduce_scatter":
            want[c, c] = 1
            got[c, every != c] = 0
        elif schedule.kind == "all_reduce":
            want[c] = 1
        elif schedule.kind == "all_to_all":
            want[c, every * len(chips) + c, :, every] = 1
        elif schedule.kind in ("broadcast", "send"):
            want[c, ..., schedule.root] = 1
        elif schedule.kind == "scatter":
            want[c, c, :, schedule.root] = 1
        elif schedule.kind in ("reduce", "gather") and c != schedule.root:
            want[c] = got[c]  # the rest there is not used
        elif schedule.kind == "gather":
            want[c, every, :, every] = 1
        elif schedule.kind == "reduce":
            want[c] = 1
        else:
            shift = zip(chip, schedule.lengths, schedule.lengths.values())
            origin = chips.index(tuple((i - schedule.shift.get(a, 0)) % k for i, a, k in shift))
            want[c, origin, :, origin] = 1
    if schedule.matrix is not None:  # a block without bytes need not be sent
        got = np.where((schedule.matrix.ravel() > 0)[:, None, None], got, want)
    wrong = np.argwhere(got != want)
    if wrong.size:
        c, block, half, source = (int(v) for v in wrong[0])
        raise ContractError(f"{schedule.kind} ({schedule.algorithm}): chip {chips[c]} ends with the contribution of chip "
                            f"{chips[source]} to block {block} (half {half}, part {part}) counted "
                            f"{got[c, block, half, source]} times instead of {want[c, block, half, source]}")
