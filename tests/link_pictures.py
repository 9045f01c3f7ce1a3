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


def joined(pairs, *, switches, levels=(), groups=(), names=(), bandwidth=None, busiest=10, seed=0):
    """Return a network of cables between nodes, the last of which are switches."""
    ends = np.array(sorted({*pairs, *((b, a) for a, b in pairs)}), np.intp)
    none, busy = np.zeros(len(ends), np.intp), np.random.default_rng(seed).random(len(ends))
    rates = np.full(len(ends), 25e9) if bandwidth is None else np.array([bandwidth(*end) for end in ends.tolist()])
    return LinkPicture({}, ends[:, 0], ends[:, 1], none - 1, none, none > 0, rates, busy, busy * 1e9, switches=switches,
                       busiest=np.argsort(-busy)[:busiest].tolist(), levels=levels, groups=groups, names=names)


def fat_tree(leaf, leaves, spines, marked=True):
    """Return a fat tree of two levels; `marked`: its switches have levels, its chips and leaves groups."""
    chips = leaf * leaves
    pairs = [(chip, chips + chip // leaf) for chip in range(chips)]
    pairs += [(chips + i, chips + leaves + k) for i in range(leaves) for k in range(spines)]
    where = {"levels": [1] * leaves + [2] * spines,
             "groups": [*(chip // leaf for chip in range(chips)), *range(leaves), *[None] * spines]} if marked else {}
    return joined(pairs, switches=leaves + spines, **where)


def gpu_nodes(nodes, gpus, marked=True):
    """Return nodes of chips with a wide switch and a NIC a chip, joined by a leaf switch for each place in the node."""
    chips, inner = nodes * gpus, nodes * (gpus + 1)
    pairs, groups, wide = [], [chip // gpus for chip in range(chips)], set()
    for node in range(nodes):
        first = chips + node * (gpus + 1)
        groups += [node] * (gpus + 1)
        for gpu in range(gpus):
            chip = node * gpus + gpu
            pairs += [(chip, first), (chip, first + 1 + gpu), (first + 1 + gpu, chips + inner + gpu)]
            wide |= {(chip, first), (first, chip)}
    where = {"levels": [1] * inner + [2] * gpus, "groups": [*groups, *[None] * gpus]} if marked else {}
    return joined(pairs, switches=inner + gpus, bandwidth=lambda a, b: 450e9 if (a, b) in wide else 50e9, **where)


def dragonfly(groups, routers, chips):
    """Return groups of fully connected routers with some chips each, and a cable between each two groups."""
    first = groups * routers * chips
    pairs = [(chip, first + chip // chips) for chip in range(first)]
    pairs += [(first + g * routers + a, first + g * routers + b)
              for g in range(groups) for a, b in combinations(range(routers), 2)]
    pairs += [(first + a * routers + b % routers, first + b * routers + a % routers) for a, b in combinations(range(groups), 2)]
    of = [*(chip // (chips * routers) for chip in range(first)), *(g for g in range(groups) for _ in range(routers))]
    return joined(pairs, switches=groups * routers, levels=[1] * groups * routers, groups=of)


def slices(count, side):
    """Return tori of chips in groups, joined by one switch."""
    chips = count * side * side
    at = {(s, x, y): (s * side + x) * side + y for s in range(count) for x in range(side) for y in range(side)}
    pairs = [(chip, at[s, (x + dx) % side, (y + 1 - dx) % side]) for (s, x, y), chip in at.items() for dx in (0, 1)]
    return joined(pairs + [(chip, chips) for chip in range(chips)], switches=1,
                  groups=[*(chip // side**2 for chip in range(chips)), None])


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
TREES = {"a switch": lambda: joined([(chip, 8) for chip in range(8)], switches=1), "fat tree": lambda: fat_tree(4, 4, 2),
         "fat tree without marks": lambda: fat_tree(4, 4, 2, False), "wide fat tree": lambda: fat_tree(16, 16, 8),
         "crowded fat tree": lambda: fat_tree(16, 64, 4), "2 nodes": lambda: gpu_nodes(2, 8),
         "16 nodes": lambda: gpu_nodes(16, 8),
         "nodes without marks": lambda: gpu_nodes(4, 4, False), "72 on 18": lambda: joined(
             [(chip, 72 + k) for chip in range(72) for k in range(18)], switches=18), "slices": lambda: slices(2, 4)}
GROUPED = {"dragonfly": lambda: dragonfly(9, 4, 2), "wide dragonfly": lambda: dragonfly(33, 8, 4)}
ROUND |= {**TREES, **GROUPED}
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
