"""Topologies of regular shape, and topologies from a user-defined function.

A new topology is a plain function that returns a `networkx.DiGraph`; `check` has the contract of this graph. The graphs here are
built directly, because `networkx.grid_graph` gives an axis of length 2 one edge and an axis of length 1 links to itself.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim import resolve
from torussim.errors import TopologyError
from torussim.topology.check import MAX_CHIPS, Links, as_float, check_topology, made_links, moving
from torussim.topology.placing import placed
from torussim.topology.shape import Indices, Twist, axis_names, is_int, receivers, wraparounds

if TYPE_CHECKING:
    import networkx as nx


def torus(
    shape: Sequence[int],
    *,
    wrap: bool | Sequence[bool] | None = None,
    bandwidth: float | Sequence[float],
    latency: float | Sequence[float] = 0.0,
    axes: Sequence[str] | None = None,
    twist: Twist | bool | None = None,
) -> nx.DiGraph:
    """Return a torus: links between neighbours on each axis, and around the ends of the axes where `wrap` says so.

    An axis of length 2 has one link each way and no wraparound, an axis of length 1 no link.

    Parameters
    ----------
    shape
        The number of chips along each axis.
    wrap
        Whether each axis has a wraparound: one value, or one for each axis; by default all have.
    bandwidth
        The bandwidth of one direction of one link, bytes/s: one value, or one for each axis.
    latency
        The latency of one link, s: one value, or one for each axis.
    axes
        The names of the axes; by default x, y, z, w, a4, a5 ...
    twist
        What going round an axis in + direction adds to other coordinates, {"x": {"z": 4}}; True is that of `standard_twist`.

    Returns
    -------
    networkx.DiGraph
        Its chips are tuples of coordinates, in C order.

    Raises
    ------
    TopologyError
        If a value makes no sense, before anything is built.

    Examples
    --------
    >>> graph = torus([4, 2], bandwidth=45e9)
    >>> sorted(graph[0, 0]), graph.graph["axes"]
    ([(0, 1), (1, 0), (3, 0)], {'x': 4, 'y': 2})
    """
    import networkx as nx

    plan = _planned(shape, wrap, bandwidth, latency, axes, twist)
    chips = list(product(*map(range, plan.axes.values())))
    graph = nx.DiGraph(axes=dict(plan.axes))
    if plan.twist:
        graph.graph["twist"] = {axis: dict(shifts) for axis, shifts in plan.twist.items()}
    graph.add_nodes_from(chips)
    for rate, delay, sources, targets in _hops(plan):
        ends = zip([chips[i] for i in sources.tolist()], [chips[i] for i in targets.tolist()], strict=True)
        graph.add_edges_from(ends, bandwidth=rate, latency=delay)
    return graph


def torus_links(
    shape: Sequence[int],
    *,
    wrap: bool | Sequence[bool] | None = None,
    bandwidth: float | Sequence[float],
    latency: float | Sequence[float] = 0.0,
    axes: Sequence[str] | None = None,
    twist: Twist | bool | None = None,
) -> Links:
    """Return the links of a torus: the same as `read_links` of `torus`, without a graph."""
    plan = _planned(shape, wrap, bandwidth, latency, axes, twist)
    hops = _hops(plan)
    source, target = (np.concatenate([hop[end] for hop in hops]) for end in (2, 3))
    rates, delays = (np.repeat([hop[of] for hop in hops], [len(hop[2]) for hop in hops]) for of in (0, 1))
    order = np.argsort(source, kind="stable")  # the order of the edges of the graph
    return made_links(dict(plan.axes), moving(plan.twist, plan.axes), source[order], target[order], rates[order], delays[order])


@dataclass(frozen=True)
class _Plan:
    """A torus of checked values, one for each axis."""

    axes: Mapping[str, int]
    wrap: Sequence[bool]
    bandwidth: Sequence[float]
    latency: Sequence[float]
    twist: Twist


def _planned(shape: Sequence[int], wrap: bool | Sequence[bool] | None, bandwidth: float | Sequence[float],
             latency: float | Sequence[float], axes: Sequence[str] | None, twist: Twist | bool | None) -> _Plan:
    """Return the torus of the arguments. Raise TopologyError if a value makes no sense."""
    lengths = _lengths(shape)
    names = _names(axes, len(lengths))
    goes_round = _one_an_axis("wrap", True if wrap is None else wrap, len(lengths))
    bandwidths = _one_an_axis("bandwidth", bandwidth, len(lengths))
    latencies = _one_an_axis("latency", latency, len(lengths))
    for name, wraps, rate, delay in zip(names, goes_round, bandwidths, latencies, strict=True):
        if not isinstance(wraps, bool | np.bool_):
            raise TopologyError(f"wrap {wraps!r} on axis {name} is neither true nor false; give one of them")
        if not 0 < as_float(rate) < inf:
            raise TopologyError(f"bandwidth {rate!r} on axis {name} is no finite number above 0; "
                                "give bytes/s, such as 45e9")
        if not 0 <= as_float(delay) < inf:
            raise TopologyError(f"latency {delay!r} on axis {name} is no finite number, 0 or more; "
                                "give seconds, such as 1e-6")

    twist = standard_twist(lengths, names) if twist is True else twist or {}
    check_twist(twist, dict(zip(names, lengths)), goes_round)
    return _Plan(dict(zip(names, lengths, strict=True)), [bool(wraps) for wraps in goes_round], list(map(as_float, bandwidths)),
                 list(map(as_float, latencies)), twist)


def _hops(plan: _Plan) -> list[tuple[float, float, Indices, Indices]]:
    """Return the hops of each axis and direction: bandwidth, latency, source chips and target chips."""
    names, lengths = list(plan.axes), tuple(plan.axes.values())
    receiver, wraparound = receivers(plan.axes, plan.twist), wraparounds(lengths)
    found = []
    for axis, length in enumerate(lengths):
        twisted = any(shift % lengths[names.index(other)] for other, shift in plan.twist.get(names[axis], {}).items())
        for sign in range(2):
            exists = ~wraparound[axis, sign] | ((length > 2 or twisted) and plan.wrap[axis])
            found.append((plan.bandwidth[axis], plan.latency[axis], np.flatnonzero(exists), receiver[axis, sign, exists]))
    pairs = np.concatenate([source * prod(lengths) + target for _, _, source, target in found])
    if len(np.unique(pairs)) < len(pairs):
        raise TopologyError(f"twist {dict(plan.twist)!r} gives chips two links to one neighbour, but a network has one edge from "
                            "a chip to another: give shifts that lead to different chips")
    return found


def mesh(
    shape: Sequence[int],
    *,
    bandwidth: float | Sequence[float],
    latency: float | Sequence[float] = 0.0,
    axes: Sequence[str] | None = None,
) -> nx.DiGraph:
    """Return a torus without wraparounds.

    Parameters
    ----------
    shape
        The number of chips along each axis.
    bandwidth
        The bandwidth of one direction of one link, bytes/s: one value, or one for each axis.
    latency
        The latency of one link, s: one value, or one for each axis.
    axes
        The names of the axes; by default x, y, z, w, a4, a5 ...

    Returns
    -------
    networkx.DiGraph
        Its chips are tuples of coordinates, in C order.

    Raises
    ------
    TopologyError
        If a value makes no sense, before anything is built.

    Examples
    --------
    >>> sorted(mesh([4, 2], bandwidth=45e9)[0, 0])
    [(0, 1), (1, 0)]
    """
    return torus(shape, wrap=False, bandwidth=bandwidth, latency=latency, axes=axes)


def ring(length: int, *, bandwidth: float, latency: float = 0.0, axes: Sequence[str] | None = None) -> nx.DiGraph:
    """Return a torus of one axis.

    Parameters
    ----------
    length
        The number of chips.
    bandwidth
        The bandwidth of one direction of one link, bytes/s.
    latency
        The latency of one link, s.
    axes
        The name of the axis, in a list; by default x.

    Returns
    -------
    networkx.DiGraph
        Its chips are tuples of coordinates, in C order.

    Raises
    ------
    TopologyError
        If a value makes no sense, before anything is built.

    Examples
    --------
    >>> sorted(ring(4, bandwidth=45e9)[(0,)])
    [(1,), (3,)]
    """
    return torus([length], bandwidth=bandwidth, latency=latency, axes=axes)


def standard_twist(lengths: Sequence[int], names: Sequence[str] | None = None) -> dict[str, dict[str, int]]:
    """Return the twist of the TPU v4 slices n x n x 2n and n x 2n x 2n, for any order of the axes.

    On n x n x 2n both short axes shift the long axis by half of its length. On n x 2n x 2n the short axis shifts both long axes
    by half of their length (Jouppi et al. 2023, 2.8, gives the shapes; these shifts balance the loads). Raise TopologyError for
    other shapes.

    >>> standard_twist([4, 4, 8]), standard_twist([4, 8, 8])
    ({'x': {'z': 4}, 'y': {'z': 4}}, {'x': {'y': 4, 'z': 4}})
    """
    names = axis_names(len(lengths)) if names is None else names
    short = min(lengths)
    shorts = [name for name, length in zip(names, lengths) if length == short]
    longs = [name for name, length in zip(names, lengths) if length == 2 * short]
    if len(lengths) != 3 or len(shorts) + len(longs) != 3 or not longs or len(shorts) == 3:
        raise TopologyError(f"a slice of shape {list(lengths)} has no twist of its own: only n x n x 2n and n x 2n x 2n have; "
                            "give the shifts, such as {x: {z: 4}}")
    return {name: dict.fromkeys(longs, short) for name in shorts}


def check_twist(twist: Twist, axes: Mapping[str, int], goes_round: Sequence[bool]) -> None:
    """Raise TopologyError for a twist of an axis that does not exist, or that has no wraparound."""
    for axis, shifts in twist.items():
        for name in (axis, *shifts):
            if name not in axes:
                raise TopologyError(f"twist names the axis {name!r}; the axes are {', '.join(axes)}")
        if axis in shifts:
            raise TopologyError(f"twist shifts axis {axis} itself when going round it: shift other axes")
        if any(not is_int(shift) for shift in shifts.values()):
            raise TopologyError(f"twist of axis {axis} is {dict(shifts)!r}; give whole numbers of chips")
        if axes[axis] < 2 or not goes_round[list(axes).index(axis)]:
            raise TopologyError(f"axis {axis} has no wraparound that could be twisted; leave its twist out")


def from_function(function: Callable[..., nx.DiGraph], keywords: Mapping[str, object],
                  lengths: Sequence[int] | None = None, order: Sequence[Any] | None = None) -> nx.DiGraph:
    """Return the topology that a user's function makes, `placed` on axes of these lengths in this order, if they are given.

    Raise TopologyError if the function raises, with its exception and the line of its file, or if its graph breaks the contract
    of a topology.
    """
    called = getattr(function, "__name__", repr(function))
    try:
        graph = function(**keywords)
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())
        text = f"{_place(function, error)}: {called} raised {type(error).__name__}{': ' if text else ''}{text}"
        raise TopologyError(text, code="function") from error
    try:
        graph = graph if lengths is None else placed(graph, lengths, order)
        check_topology(graph)
    except TopologyError as error:
        raise error.within((), f"{_place(function)}: {called} returned an invalid topology: ") from None
    return graph


def _place(function: Callable[..., Any], error: BaseException | None = None) -> str:
    """Return the file and line of the user's own code where an error arose, or else where the function is defined."""
    code = resolve.code_of(function)
    frames = traceback.extract_tb(error.__traceback__)[1:] if error else []  # the first frame is from_function's
    file = code.co_filename if code else frames[0].filename if frames else None
    own = [frame for frame in frames if frame.filename == file]
    if own:
        return f"{file}:{own[-1].lineno}"
    return f"{code.co_filename}:{code.co_firstlineno}" if code else resolve.shown(function)


def _lengths(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape as plain ints. Raise TopologyError if it is not a shape, or has more chips than can be built."""
    try:
        lengths = () if isinstance(shape, str | Mapping) else tuple(shape)
    except TypeError:
        lengths = ()
    if not lengths or not all(is_int(length) and length >= 1 for length in lengths):
        raise TopologyError(f"shape {shape!r} is no list of whole numbers above 0; "
                            "give one length an axis, such as [4, 4, 4]")
    lengths = tuple(map(int, lengths))
    if prod(lengths) > MAX_CHIPS:
        raise TopologyError(f"a shape of {prod(lengths):,} chips, {list(lengths)}; give at most {MAX_CHIPS:,} chips")
    return lengths


def _names(axes: Sequence[str] | None, n: int) -> tuple[str, ...]:
    if axes is None:
        return axis_names(n)
    names = tuple(axes) if isinstance(axes, Sequence) else ()
    if len(names) != n or not all(isinstance(name, str) and name for name in names) or len(set(names)) != n:
        raise TopologyError(f"axes {axes!r} do not name the axes of the shape; give {n} different names, such as "
                            f"{list(axis_names(n))}")
    return names


def _one_an_axis(name: str, value: object, n: int) -> tuple[Any, ...]:
    """Return one value for each of n axes. Raise TopologyError for a list of another length."""
    if not isinstance(value, list | tuple | np.ndarray) or np.ndim(value) == 0:
        return (value,) * n
    if len(value) != n:
        raise TopologyError(f"{name} {list(value)} has {len(value)} values, but the shape has {n}; "
                            f"give one value, or {n}")
    return tuple(value)
