"""Networks with made-up use of their links, to be drawn."""

from dataclasses import replace
from itertools import combinations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from torussim.plot import LinkPicture

Z4 = {0: {2: 4}, 1: {2: 4}}  # 4 x 4 x 8: going round x, or y, shifts z by 4


def network(shape, *, wrap=True, twist=None, names="xyzwabcd", slow=(), dead=(), busiest=10, seed=1):
    """Return a torus or a mesh with made-up use; `slow` and `dead`: pairs of chips, both directions."""
    twist = twist or {}
    rows = []
    for chip in np.ndindex(*shape):
        for axis, length in enumerate(shape):
            for sign, step in ((0, 1), (1, -1)):
                to = list(chip)
                to[axis] += step
                out = not 0 <= to[axis] < length
                if length == 1 or (out and (not wrap or (length == 2 and axis not in twist))):
                    continue
                if out:
                    for other, by in twist.get(axis, {}).items():
                        to[other] = (to[other] + step * by) % shape[other]
                to[axis] %= length
                rows.append((np.ravel_multi_index(chip, shape), np.ravel_multi_index(to, shape), axis, sign, out))
    source, target, axis, sign, out = np.array(rows, np.intp).reshape(-1, 5).T
    pairs = [{tuple(int(np.ravel_multi_index(chip, shape)) for chip in ends) for a, b in given for ends in ((a, b), (b, a))}
             for given in (slow, dead)]
    halved, gone = (np.array([ends in found for ends in zip(source.tolist(), target.tolist(), strict=True)], bool)
                    for found in pairs)
    assert all(found.sum() == len(given) for found, given in zip((halved, gone), pairs, strict=True)), "each names a link"
    busy = np.random.default_rng(seed).random(len(source))
    bandwidth = np.where(halved, 22.5e9, 45e9)
    lost = [(int(s), int(t), int(a)) for s, t, a in zip(source[gone], target[gone], axis[gone], strict=True)]
    kept = ~gone
    columns = [column[kept] for column in (source, target, axis, sign, out.astype(bool), bandwidth, busy, busy * bandwidth)]
    order = np.argsort(-columns[6], kind="stable")[:busiest].tolist()
    users = [f"operation_{i} (all_gather, x); another with a name (all_to_all, {names[:3]}), routed, " * (1 + i % 3)
             for i in range(len(order))]
    return LinkPicture(dict(zip(names, shape, strict=False)), *columns, dead=lost, busiest=order, users=users)


def graph(chips, switches, seed=0):
    """Return a network without axes: chips in a ring with chords, or each at one of several switches, all of them joined."""
    rng = np.random.default_rng(seed)
    pairs = {(c, (c + 1) % chips) for c in range(chips)} | {(c, (c + 5) % chips) for c in range(0, chips, 3)}
    if switches:
        pairs = {(c, chips + c * switches // chips) for c in range(chips)} | set(combinations(range(chips, chips + switches), 2))
    ends = np.array(sorted(pairs | {(b, a) for a, b in pairs}), np.intp)
    none, busy = np.zeros(len(ends), np.intp), rng.random(len(ends))
    return LinkPicture({}, ends[:, 0], ends[:, 1], none - 1, none, none > 0, np.full(len(ends), 25e9), busy, busy * 1e9,
                       dead=[(0, 2, -1)], busiest=np.argsort(-busy)[:10].tolist(), switches=switches)


def strangers():
    """Return a 4 x 4 x 4 torus with two links between chips that are no neighbours, within a slice and across."""
    plain = network((4, 4, 4))
    more = {"source": [0, 2], "target": [36, 63], "axis": [-1, -1], "sign": [0, 0], "wraparound": [False, False],
            "bandwidth": [45e9, 45e9], "busy": [0.5, 0.99], "bytes": [1e6, 2e6]}
    return replace(plain, **{name: np.concatenate([getattr(plain, name), values]) for name, values in more.items()})


SLICED = {
    "4x4x4": lambda: network((4, 4, 4), slow=[((1, 2, 1), (2, 2, 1)), ((0, 0, 3), (0, 0, 0))],
                             dead=[((2, 1, 2), (3, 1, 2)), ((3, 3, 0), (0, 3, 0)), ((1, 1, 0), (1, 1, 1))]),
    "2x2x2": lambda: network((2, 2, 2), dead=[((0, 0, 0), (0, 0, 1))]),
    "8x8": lambda: network((8, 8), slow=[((0, 3), (0, 4))]),
    "ring of 16": lambda: network((16,), dead=[((4,), (5,)), ((15,), (0,))]),
    "4x4x8": lambda: network((4, 4, 8)),
    "4x4x8 twisted": lambda: network((4, 4, 8), twist=Z4, slow=[((3, 0, 1), (0, 0, 5))], dead=[((3, 1, 2), (0, 1, 6))]),
    "4x8x8 twisted": lambda: network((4, 8, 8), twist={0: {1: 4, 2: 4}}),
    "mesh 3x2": lambda: network((3, 2), wrap=False, slow=[((1, 1), (2, 1))], busiest=3),
    "mesh 5x3": lambda: network((5, 3), wrap=False),
    "8x8x8": lambda: network((8, 8, 8), slow=[((7, 2, 1), (0, 2, 1))], dead=[((2, 6, 3), (2, 7, 3))]),
    "16x16x16": lambda: network((16, 16, 16), slow=[((3, 3, 3), (4, 3, 3))], dead=[((5, 5, 5), (5, 5, 6))]),
    "4x4x4x4": lambda: network((4, 4, 4, 4)),
    "2 to the 7": lambda: network((2,) * 7),
    "1x4x4": lambda: network((1, 4, 4)),
    "64x64": lambda: network((64, 64)),
    "ring of 300": lambda: network((300,)),
    "long names": lambda: network((2, 3, 2), names=["column", "the rows of it", "depth", "more"]),
    "all alike": lambda: replace(network((4, 4, 4)), busy=np.full(384, 0.06), busiest=range(10)),
    "16x16x16 alike": lambda: replace(network((16, 16, 16)), busy=np.full(24576, 0.9), busiest=range(10)),
    "nothing busy": lambda: replace(network((12, 12, 9)), busy=np.zeros(7776), busiest=(), users=()),
    "one chip": lambda: network((1, 1)),
    "two chips": lambda: network((2,)),
}
ROUND = {"16 chips": lambda: graph(16, 0), "64 chips, 8 switches": lambda: graph(64, 8), "150 chips": lambda: graph(150, 0),
         "named": lambda: replace(graph(30, 4), names=[f"a chip whose name never ends {i}" for i in range(34)])}
CASES = {**SLICED, **ROUND, "strangers": strangers}


def check_texts(figure):
    """Assert that no text of a figure meets another, and that all are inside it."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.findobj(Text) if text.get_text()]
    for text, box in boxes:
        assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height, text  # noqa: SIM300
    edges = np.array([(box.x0, box.x1, box.y0, box.y1) for _, box in boxes])
    across = np.minimum(edges[:, None, 1], edges[None, :, 1]) - np.maximum(edges[:, None, 0], edges[None, :, 0])
    down = np.minimum(edges[:, None, 3], edges[None, :, 3]) - np.maximum(edges[:, None, 2], edges[None, :, 2])
    meets = np.argwhere(np.triu((across > 0) & (down > 2.25), 1))  # a box has room for accents above
    assert not len(meets), [(boxes[a][0], boxes[b][0]) for a, b in meets]
