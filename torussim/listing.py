"""The names that a scenario can use: models, chips, topologies, layouts and collectives, as lines of text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torussim.models import Model


def lists() -> dict[str, Callable[[], list[str]]]:
    """Return for each kind of name the function that makes its lines, each with a name and its meaning."""
    from torussim.resolve import preset_names

    def models() -> list[str]:
        from torussim.models import model
        made = [model(name) for name in preset_names("models")]
        return [f"{m.name:16} {m.layers} layers, E {m.d_model}, F {m.d_ff}, {m.heads} heads, {m.kv_heads} KV, "
                f"{'gated' if m.gated else 'plain'}, {'parallel' if m.parallel else 'serial'}{kinds(m)}" for m in made]

    def kinds(m: Model) -> str:
        """Return what a model has beside dense layers whose attention reads the whole context."""
        shared = f" and {m.shared_experts} shared" if m.shared_experts else ""
        said = [f"{m.experts_per_token} of {m.experts} experts{shared} in {sum(kind.mixture for kind in m.kinds)} layers, "
                f"F {m.d_expert}"] if m.experts else []
        said += [f"window {m.window} in {sum(kind.window is not None for kind in m.kinds)} layers"] if m.window else []
        said += [f"latent {m.latent} + {m.latent_rope}"] if m.latent else []
        return "".join(f"; {text}" for text in said)

    def chips() -> list[str]:
        from torussim.chips import chip
        from torussim.units import show
        made = [chip(name) for name in preset_names("chips")]
        return [f"{c.name:16} {show(c.flops['bf16'], 'FLOP/s')} bf16, HBM {show(c.hbm_bytes, 'B')} at "
                f"{show(c.hbm_bandwidth, 'B/s')}, {c.links} links of {show(c.link_bandwidth, 'B/s')}" for c in made]

    def topologies() -> list[str]:
        from torussim.topology.named import NETWORKS, said
        from torussim.topology.slices import sizes
        return ["torus            any number of axes; wraparounds by the chip's rule, or wrap: [true, false, ...]",
                "mesh             a torus without wraparounds", "ring             one axis that closes",
                *(f"{name:16} {said(name)}" for name in NETWORKS),
                "file             the network in a file: path: net.json, format: node_link, graphml or astra_sim",
                "module:function  your own: a function that returns a networkx DiGraph",
                *(f"slice            {line}" for line in sizes()),
                "slice            a shape in chips: v5p-4x4x8, or 4x4x8 with a chip"]

    def layouts() -> list[str]:
        from torussim.layouts import LAYOUTS, Layout, Sizes, settled, table
        size = Sizes({"x": 4, "y": 4, "z": 4}, 512, 8192, 64, 1, "batch")
        made = {name: table(Layout(name), size) for name in LAYOUTS}
        return [f"{name:16} residual {t['residual'].stored!s:12}  W_in {' -> '.join(str(s) for s in t['w_in'].stations):22} "
                f"attention {settled(Layout(), t).attention_kernel}" for name, t in made.items()]

    def collectives() -> list[str]:
        from torussim.collectives.lower import ALGORITHMS
        return [f"{kind:16} {', '.join(names)}" for kind, names in ALGORITHMS.items()]

    return {"models": models, "chips": chips, "topologies": topologies, "layouts": layouts, "collectives": collectives}
