"""The event core: the compiled loop that works out a run whose messages share links.

A *worklist* holds the consequences of known times that are still to be worked out. When the worklist is empty, the network
goes on to the next start or end of a flow. So a time is known as soon as the times that it depends on are known, even if it
lies ahead of the network's clock, and no flow starts in the past of the network. A stage on a private lane runs when its last
chip has arrived: all transfers at once. On a shared lane the head of the queue of each hop becomes a flow.

A *block run* is one run of a section. Block runs are numbered; block run r is in slot r % slots of the state.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from torussim.engine import heap, max_min
from torussim.engine.jit import compiled
from torussim.engine.network_model import NetworkModel
from torussim.engine.run_state import State
from torussim.engine.schedule_table import COMPUTE, END, LOOPED, START, Table

Array = np.ndarray[Any, Any]
network: NetworkModel = max_min
NOTHING, ENTER, TELL, ARRIVE, BASE, LANE, COMPLETE, FINISH, SEND, SHARD = range(10)  # the kinds of items of the worklist
DONE, NEXT_RUN, CHANGE, GROW, FULL_LOG, GROW_NETWORK, PAST = range(7)  # the reasons why `run` returns
IDLE, WAITS, FLOWS, ENDED = range(4)  # the states of the head of a hop's queue
LATE = 1 - 1e-9  # times the network's clock: an earlier start is in the past


@compiled
def put(work: Array, size: int, what: int, run: int, index: int, chip: int, time: float) -> int:
    """Put an item on the worklist; return the size of the worklist."""
    item = work[size]
    item["what"] = what
    item["run"] = run
    item["index"] = index
    item["chip"] = chip
    item["time"] = time
    return size + 1


@compiled
def run(table: Table, state: State, net: Any, until: float) -> int:
    """Go on until the caller has to act; return the reason. `until`: the time of the next change of bandwidth, seconds."""
    one = state.one[0]
    while True:
        reason = follow(table, state)
        if reason != DONE:
            return reason
        if one["entered"] > 0:
            return NEXT_RUN
        now = net.one[0]["now"]
        start = state.start[state.start_heap[0]] if one["starts"] > 0 else np.inf
        end = network.next_end(net) if start > now else np.inf
        if min(start, end) == np.inf:
            return DONE
        if min(start, end) >= until:
            return CHANGE
        one["events"] += 1
        if end <= start:
            count = network.advance(net)
            now = net.one[0]["now"]
            for i in range(count):
                flow = net.flows[net.ended[i]]
                path = flow["path"]
                if path < len(table.hops):
                    hop = state.hops[path]
                    hop["doing"] = ENDED
                    hop["ended"] = now
                    one["work"] = put(state.work, one["work"], SEND, 0, path, 0, now)
                else:
                    left(table, state, path, flow["run"], now)
        else:
            if start < now * LATE:
                return PAST
            if start > now:
                network.go(net, start)
            while one["starts"] > 0 and state.start[state.start_heap[0]] == start:
                if not begin(table, state, net, state.start_heap[0]):
                    one["events"] -= 1
                    return GROW_NETWORK


@compiled
def begin(table: Table, state: State, net: Any, which: int) -> bool:
    """Start the flows of entry `which` of the starts; return whether the network has room for all of them."""
    one, hops, chips = state.one[0], len(table.hops), len(state.unit)
    if which < hops:
        if not network.start(net, which, table.transfers[state.hops[which]["at"]]["bytes"], 0):
            return False
        state.hops[which]["doing"] = FLOWS
    else:
        direct, messages = table.directs[(which - hops) // chips % len(table.directs)], state.begin[which]
        while messages["count"] > 0:
            message = messages["message"] * chips + (which - hops) % chips
            path, receiver = direct["path"] + message, table.receiver[direct["receiver"] + message]
            if receiver >= 0:
                size = direct["bytes"] if direct["sizes"] < 0 else table.sizes[direct["sizes"] + message]
                if not network.start(net, path, size, messages["run"]):
                    return False
                if direct["head"] >= 0:
                    heads(table, state, direct, receiver, messages["run"], state.start[which] + table.path_latency[path])
            messages["message"] += 1
            messages["count"] -= 1
    one["starts"] = heap.remove(state.start_heap, one["starts"], state.start_place, state.start, which)
    state.start[which] = np.inf
    return True


@compiled
def heads(table: Table, state: State, direct: Any, chip: int, number: int, time: float) -> None:
    """Note that a message begins to arrive and that the next stage passes it on."""
    one, slot = state.one[0], number & (len(state.runs) - 1)
    head, base = state.heads[slot, direct["head"], chip], state.stages[slot, chip, direct["stage"]]["base"]
    head["time"] = max(head["time"], time)
    head["due"] -= 1
    if head["due"] == 0 and base == base:
        one["work"] = put(state.work, one["work"], BASE, number, table.stages[direct["stage"]]["then"], chip,
                          max(base, head["time"]))


@compiled
def left(table: Table, state: State, path: int, number: int, now: float) -> None:
    """Note that the last byte of a message of a routed operation has left its sender."""
    one, chips = state.one[0], len(state.unit)
    d = len(table.directs) - 1
    while table.directs[d]["path"] > path:
        d -= 1
    direct = table.directs[d]
    message, sender = (path - direct["path"]) // chips, (path - direct["path"]) % chips
    receiver = table.receiver[direct["receiver"] + path - direct["path"]]
    arrival = now + table.path_latency[path]
    slot = number & (len(state.runs) - 1)
    s = direct["stage"]
    if direct["turns"]:
        first = direct["passed"] + message * chips
        state.passed[slot, first + sender]["sent"] = now
        state.passed[slot, first + receiver]["got"] = arrival
        for side in range(2):
            chip = receiver if side else sender
            sent, got = state.passed[slot, first + chip]["sent"], state.passed[slot, first + chip]["got"]
            if message + 1 < direct["messages"] and sent == sent and got == got and (side == 0 or receiver != sender):
                which = len(table.hops) + (slot * len(table.directs) + d) * chips + chip
                schedule(state, which, max(sent, got), number, message + 1, 1)
    if direct["piped"]:  # a message arrives no earlier than the data that it passes on
        before, passed = state.stages[slot, sender, s - 1], state.passed[slot, direct["passed"] + path - direct["path"]]
        passed["sent"] = now
        if before["due"] > 0 or before["base"] != before["base"]:
            return
        arrival = passed["got"] = max(now, before["base"], before["arrived"]) + table.path_latency[path]
    one["work"] = arrives(state, state.work, one["work"], number, s, receiver, arrival)


@compiled
def arrives(state: State, work: Array, size: int, number: int, s: int, chip: int, time: float) -> int:
    """Note one arrival that a stage of a chip waits for; return the size of the worklist."""
    here = state.stages[number & (len(state.runs) - 1), chip, s]
    here["arrived"] = max(here["arrived"], time)
    here["due"] -= 1
    if here["due"] == 0 and here["base"] == here["base"]:
        return put(work, size, COMPLETE, number, s, chip, max(here["base"], here["arrived"]))
    return size


@compiled
def passed_on(table: Table, state: State, work: Array, size: int, number: int, s: int, chip: int, time: float) -> int:
    """Note the arrivals of the messages that a chip passed on in a piped stage, now that its stage before is complete.

    Return the size of the worklist.
    """
    direct, slot, chips = table.directs[table.stages[s]["direct"]], number & (len(state.runs) - 1), len(state.unit)
    for m in range(direct["messages"]):
        at = m * chips + chip
        passed, receiver = state.passed[slot, direct["passed"] + at], table.receiver[direct["receiver"] + at]
        if receiver >= 0 and passed["sent"] == passed["sent"] and passed["got"] != passed["got"]:
            passed["got"] = max(passed["sent"], time) + table.path_latency[direct["path"] + at]
            size = arrives(state, work, size, number, s, receiver, passed["got"])
    return arrives(state, work, size, number, s, chip, time)


@compiled
def schedule(state: State, which: int, time: float, number: int, message: int, count: int) -> None:
    """Schedule the start of flows at a time."""
    one, messages = state.one[0], state.begin[which]
    messages["run"], messages["message"], messages["count"] = number, message, count
    state.start[which] = time
    one["starts"] = heap.push(state.start_heap, one["starts"], state.start_place, state.start, which)


@compiled
def follow(table: Table, state: State) -> int:
    """Work out all consequences of known times; return DONE, or the array that has no room."""
    one, work, mask, chips, hops = state.one[0], state.work, len(state.runs) - 1, len(state.unit), len(table.hops)
    size, last = one["work"], one["runs"] - 1
    number, index, chip, time = 0, 0, 0, 0.0
    what = NOTHING
    while size > 0 or what != NOTHING:
        if size + one["margin"] > len(work) or (one["recording"] and one["logged"] + one["log_margin"] > len(state.log)):
            if what != NOTHING:
                size = put(work, size, what, number, index, chip, time)
            one["work"] = size
            return GROW if size + one["margin"] > len(work) else FULL_LOG
        if what == NOTHING:
            size -= 1
            item = work[size]
            what, number, index, chip, time = item["what"], item["run"], item["index"], item["chip"], item["time"]
        slot, doing = number & mask, what
        what = NOTHING  # or the next item, which needs no place on the worklist

        if doing == SEND:
            hop = state.hops[index]
            while hop["doing"] != WAITS and hop["doing"] != FLOWS:
                if size + one["margin"] > len(work) or (
                        one["recording"] and one["logged"] + one["log_margin"] > len(state.log)):
                    size = put(work, size, SEND, 0, index, 0, time)
                    break
                number = hop["run"]
                if number > last:
                    break
                slot = number & mask
                at = hop["at"]
                if state.runs[slot]["number"] != number or at == table.queues[state.runs[slot]["section"], index + 1]:
                    hop["run"] = number + 1
                    if number < last:
                        hop["at"] = table.queues[state.runs[(number + 1) & mask]["section"], index]
                    continue
                transfer = table.transfers[at]
                s, c = transfer["stage"], transfer["chip"]
                if hop["doing"] == ENDED:
                    end = hop["ended"]
                    since = state.free[index]
                    hop["doing"] = IDLE
                else:
                    since = state.stages[slot, c, s]["base"]
                    if since != since:
                        break
                    if transfer["parent"] >= 0:
                        came = state.came[slot, transfer["parent"]]
                        if came != came:
                            break
                        since = max(since, came)
                    if transfer["feed"] >= 0:
                        since = max(since, state.shards[slot, transfer["feed"], c])
                    since = max(since, state.free[index])
                    if not table.hops[index]["alone"]:
                        hop["doing"] = WAITS
                        state.free[index] = since
                        state.start[index] = since
                        one["starts"] = heap.push(state.start_heap, one["starts"], state.start_place, state.start, index)
                        break
                    end = since + transfer["bytes"] / table.hops[index]["rate"]
                arrival = end + table.hops[index]["latency"]
                state.free[index] = end
                hop["at"] = at + 1
                state.came[slot, at] = arrival
                if one["recording"] and state.recorded[c]:
                    note(state, number, table.stages[s]["operation"], index, c, since, end, transfer["bytes"])
                to = transfer["to"]
                size = arrives(state, work, size, number, s, to, arrival)
                if transfer["key"] >= 0:
                    state.shards[slot, transfer["key"], to] = max(state.shards[slot, transfer["key"], to], arrival)
                    if transfer["awaited"]:
                        size = put(work, size, SHARD, number, table.stages[s]["operation"], to, arrival)
                child = transfer["child"]
                while child >= 0:
                    other = table.transfers[child]["hop"]
                    if state.hops[other]["at"] == child:
                        size = put(work, size, SEND, 0, other, 0, arrival)
                    child = table.transfers[child]["sibling"]

        elif doing in (TELL, SHARD):
            o = table.operations[index]["partner"] if doing == SHARD else index
            here = state.operations[slot, chip, o]
            if doing == TELL and time > here["at"]:
                here["at"] = time
            here["missing"] -= 1
            if here["missing"] == 0:
                what, index, time = ARRIVE, o, here["at"]

        elif doing == ARRIVE:
            operation, here = table.operations[index], state.operations[slot, chip, index]
            if operation["kind"] <= LOOPED:
                start = max(here["at"], state.unit[chip])
                if operation["kind"] == COMPUTE:
                    end = start + table.fixed[chip, index] + table.busy[chip, index]
                else:
                    end = start + operation["overhead"]
                    for p in range(operation["piece"], operation["piece"] + operation["pieces"]):
                        key, row = table.pieces[p]["key"], table.pieces[p]["seconds"]
                        if key >= 0 and operation["gathers"] and not table.piece_idle[row, chip]:
                            end = max(end, state.shards[slot, key, chip])
                        end = end + table.piece_seconds[row, chip]
                        if key >= 0 and not operation["gathers"]:
                            state.shards[slot, key, chip] = end
                here["start"] = start
                state.unit[chip] = end
                what, time = FINISH, end
            else:
                here["start"] = here["at"]
                base = here["at"] + table.fixed[chip, index]
                here["at"] = base  # from now on: the latest time at which a stage of the operation is complete
                if operation["stages"] == 0:
                    size = put(work, size, FINISH, number, index, chip, base)
                for s in range(operation["stage"] + operation["stages"] - 1, operation["stage"] - 1, -1):
                    if table.stages[s]["leads"]:
                        size = put(work, size, BASE, number, s, chip, base)
                if operation["awaited"]:
                    for k in range(operation["tell"], operation["tell"] + operation["tells"]):
                        if table.tells[k]["what"] == START:
                            size = put(work, size, TELL, number, table.tells[k]["operation"], chip, here["start"])

        elif doing == BASE:
            stage, here = table.stages[index], state.stages[slot, chip, index]
            here["base"] = time
            if stage["direct"] >= 0:
                d = stage["direct"]
                count = 1 if table.directs[d]["turns"] else table.directs[d]["messages"]
                schedule(state, hops + (slot * len(table.directs) + d) * chips + chip, time, number, 0, count)
                head = table.directs[d]["head"]
                if head >= 0 and state.heads[slot, head, chip]["due"] == 0:
                    size = put(work, size, BASE, number, stage["then"], chip, max(time, state.heads[slot, head, chip]["time"]))
            elif not table.lanes[stage["lanes"], chip]["shared"]:
                lead = table.lanes[stage["lanes"], chip]["lead"]
                state.lacking[slot, index, lead] -= 1
                if state.lacking[slot, index, lead] == 0:
                    what, chip = LANE, lead
                continue
            else:
                for k in range(stage["place"], stage["place"] + stage["places"]):
                    h = 2 * table.places[k]["axis"] * chips + chip
                    size = put(work, size, SEND, 0, h + chips, 0, time)
                    size = put(work, size, SEND, 0, h, 0, time)
            if here["due"] == 0:
                size = put(work, size, COMPLETE, number, index, chip, max(time, here["arrived"]))

        elif doing == LANE:
            size = lane(table, state, size, number, index, chip, last)

        elif doing == COMPLETE:
            then, o = table.stages[index]["then"], table.stages[index]["operation"]
            if then >= 0 and table.stages[then]["direct"] >= 0 and table.directs[table.stages[then]["direct"]]["piped"]:
                size = passed_on(table, state, work, size, number, then, chip, time)
            elif then >= 0:
                what, index = BASE, then
            else:
                here = state.operations[slot, chip, o]
                here["at"] = max(here["at"], time)
                here["parts"] -= 1
                if here["parts"] == 0:
                    end = here["at"]
                    if table.operations[o]["fed"]:
                        end = max(end, state.operations[slot, chip, table.operations[o]["partner"]]["end"])
                    what, index, time = FINISH, o, end

        elif doing == FINISH:
            operation, here = table.operations[index], state.operations[slot, chip, index]
            here["end"] = time
            state.runs[slot]["left"] -= 1
            if operation["last"]:
                if number < last:
                    size = put(work, size, ENTER, number + 1, 0, chip, time)
                else:
                    entry = state.entered[one["entered"]]
                    entry["chip"] = chip
                    entry["time"] = time
                    one["entered"] += 1
            if operation["unit_last"]:
                other = state.runs[slot]["next_unit"]
                if other >= 0:
                    o = table.sections[state.runs[other & mask]["section"]]["unit_first"]
                    size = put(work, size, TELL, other, o, chip, -np.inf)
            for k in range(operation["tell"], operation["tell"] + operation["tells"]):
                tell = table.tells[k]["what"]
                if tell != START:
                    size = put(work, size, TELL, number, table.tells[k]["operation"], chip, time if tell == END else -np.inf)
                elif not operation["awaited"]:
                    size = put(work, size, TELL, number, table.tells[k]["operation"], chip, here["start"])

        else:  # ENTER
            section = table.sections[state.runs[slot]["section"]]
            for o in range(section["operation"] + section["operations"] - 1, section["operation"] - 1, -1):
                if table.operations[o]["entering"]:
                    size = put(work, size, TELL, number, o, chip, time)
    one["work"] = 0
    return DONE


@compiled
def note(state: State, number: int, operation: int, hop: int, chip: int, start: float, end: float, size: float) -> None:
    """Add a message to the log."""
    entry = state.log[state.one[0]["logged"]]
    entry["run"], entry["operation"], entry["hop"], entry["chip"] = number, operation, hop, chip
    entry["start"], entry["end"], entry["bytes"] = start, end, size
    state.one[0]["logged"] += 1


@compiled
def lane(table: Table, state: State, size: int, number: int, s: int, lead: int, last: int) -> int:
    """Run a stage on a private lane if all chips have arrived and the stage is next in the queue.

    Return the size of the worklist. The max-plus recurrence: a transfer starts when its chip may send, the data that it passes on
    have arrived, and its hop is free.
    """
    work, mask, turns = state.work, len(state.runs) - 1, state.turns
    slot, stage, kind = number & mask, table.stages[s], table.stages[s]["lanes"]
    first, count = table.lanes[kind, lead]["first"], table.lanes[kind, lead]["count"]
    members, here, came = table.members[kind], state.stages[slot], state.scratch
    if state.lacking[slot, s, lead] != 0:
        return size
    lines = count if stage["places"] > 1 else 1  # a lane over several axes needs its turn on each line of an axis
    for m in range(first, first + lines):
        for k in range(stage["place"], stage["place"] + stage["places"]):
            axis = table.places[k]["axis"]
            if table.line[axis, members[m]] != members[m]:
                continue
            turn = turns[axis, members[m]]
            while turn["run"] < number:
                other = turn["run"] & mask
                if state.runs[other]["number"] == turn["run"] and \
                        table.order[state.runs[other]["section"], axis, turn["place"]] >= 0:
                    return size
                turn["run"] += 1
                turn["place"] = 0
            if turn["place"] != table.places[k]["place"]:
                return size
    state.lacking[slot, s, lead] = -1
    recording, base, latest = state.one[0]["recording"], came[0], came[1]
    for m in range(count):
        base[m] = latest[m] = here[members[first + m], s]["base"]
    first_row = table.lane_rows[s, lead]["row"]
    for r in range(table.lane_rows[s, lead]["rows"]):
        row = table.rows[first_row + r]
        parent, key, feed, out, since = row["parent"] + 2, row["key"], row["feed"], came[r + 2], came[len(came) - 1]
        hop, seconds, late = table.row_hop[row["hop"]], table.row_seconds[row["seconds"]], table.row_late[row["late"]]
        if parent < 2:
            for m in range(count):
                since[m] = base[m]
        else:
            brought = table.row_came[row["came"]]
            for m in range(count):
                since[m] = max(base[m], came[parent + (brought[first + m] & 1), brought[first + m] >> 1])
        if feed >= 0:
            for m in range(count):
                since[m] = max(since[m], state.shards[slot, feed, members[first + m]])
        for m in range(count):
            at = first + m
            begin = max(since[m], state.free[hop[at]])
            end = begin + seconds[at]
            out[m] = end + late[at]
            if out[m] > -np.inf:
                state.free[hop[at]] = end
                if recording and state.recorded[members[at]]:
                    note(state, number, stage["operation"], hop[at], members[at], begin, end, table.row_bytes[row["bytes"], at])
        if row["latest"]:
            to = table.row_to[row["to"]]
            for m in range(count):
                latest[to[first + m]] = max(latest[to[first + m]], out[m])
        if key >= 0:
            to = table.row_to[row["to"]]
            for m in range(count):
                c = members[first + to[first + m]]
                state.shards[slot, key, c] = max(state.shards[slot, key, c], out[m])
    then = stage["then"]
    follows = table.lanes[table.stages[then]["lanes"]]
    for m in range(count):
        c = members[first + m]
        if then < 0 or follows[c]["shared"]:
            size = put(work, size, COMPLETE, number, s, c, latest[m])
            continue
        here[c, then]["base"] = latest[m]
        other = follows[c]["lead"]
        state.lacking[slot, then, other] -= 1
        if state.lacking[slot, then, other] == 0:
            size = put(work, size, LANE, number, then, other, 0.0)
    for m in range(first, first + lines):
        c = members[m]
        for k in range(stage["place"], stage["place"] + stage["places"]):
            axis = table.places[k]["axis"]
            if table.line[axis, c] != c:
                continue
            turns[axis, c]["place"] += 1
            run, follower = number, table.order[state.runs[slot]["section"], axis, turns[axis, c]["place"]]
            while follower < 0 and run < last:
                run += 1
                follower = table.order[state.runs[run & mask]["section"], axis, 0]
            if follower >= 0:
                other = table.lanes[table.stages[follower]["lanes"], c]["lead"]
                if state.lacking[run & mask, follower, other] == 0:
                    size = put(work, size, LANE, run, follower, other, 0.0)
    return size
