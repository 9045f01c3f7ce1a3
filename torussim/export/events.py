"""Events of the Chrome trace-event format as lines of JSON; times in seconds, numbers of processes and threads from 1."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

to_json = json.JSONEncoder(allow_nan=False).encode
THREADS = 1000  # numbers of threads that a process has; viewers take a thread's number as unique among all processes


def place(node: Any) -> str:
    """Return a chip as its coordinates, a switch as its name."""
    return f"({','.join(map(str, node))})" if isinstance(node, tuple) else str(node)


def ns(seconds: float) -> int:
    """Return a time in whole nanoseconds."""
    return round(seconds * 1e9)


def us(nanoseconds: int) -> str:
    """Return nanoseconds as microseconds, the unit of the format."""
    return f"{nanoseconds // 1000}.{nanoseconds % 1000:03d}"


def span(process: int, thread: int, name: str, category: str, start: float, end: float, args: Mapping[str, Any]) -> str:
    """Return a slice of a thread; arguments that are None are left out."""
    begin = ns(start)
    given = to_json({key: value for key, value in args.items() if value is not None})
    return (f'{{"ph":"X","pid":{process},"tid":{thread},"ts":{us(begin)},"dur":{us(ns(end) - begin)},"cat":"{category}",'
            f'"name":{to_json(name)},"args":{given}}}')


def counter(process: int, name: str, at: float, series: str, value: float) -> str:
    """Return the value of a counter from a time on."""
    return (f'{{"ph":"C","pid":{process},"ts":{us(ns(at))},"name":{to_json(name)},'
            f'"args":{{"{series}":{to_json(value)}}}}}')


def named(process: int, name: str, place: int) -> Iterator[str]:
    """Yield the name of a process, and its place among all."""
    for what, value in (("process_name", {"name": name}), ("process_sort_index", {"sort_index": place})):
        yield to_json({"ph": "M", "pid": process, "name": what, "args": value})


def thread(process: int, number: int, name: str) -> str:
    """Return the name of a thread, and its place in its process."""
    given = [{"ph": "M", "pid": process, "tid": number, "name": "thread_name", "args": {"name": name}},
             {"ph": "M", "pid": process, "tid": number, "name": "thread_sort_index", "args": {"sort_index": number % THREADS}}]
    return ",\n".join(to_json(one) for one in given)


def arrow(number: int, name: str, *, sender: tuple[int, int], sent: int, receiver: tuple[int, int], came: int) -> str:
    """Return an arrow from a slice to another: their (process, thread), and times in ns within them."""
    ends = (("s", sender, sent, ""), ("f", receiver, came, ',"bp":"e"'))
    return ",\n".join(f'{{"ph":"{letter}","pid":{process},"tid":{on},"ts":{us(at)},"id":{number},"cat":"message",'
                      f'"name":{to_json(name)}{how}}}' for letter, (process, on), at, how in ends)
