"""Draws plots/folding.svg: the chips of a 4x4 torus with one slow link, those that are simulated as one in one colour.

The classes are those of a run: `Segment.stands` says which chip stands for which.
"""

from pathlib import Path

from torussim import chip, simulate, torus
from torussim.program import Collective, Program

HERE = Path(__file__).resolve().parent
SIDE, STEP, SIZE = 4, 84, 21  # chips of an axis, pixels between them, radius
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#777777", "#b8b000")


def classes() -> dict[tuple[int, ...], int]:
    """Return for each chip the number of the class that it is simulated with."""
    network = torus((SIDE, SIDE), bandwidth=45e9, latency=1e-6)
    for one, other in (((0, 0), (1, 0)), ((1, 0), (0, 0))):
        network.edges[one, other]["bandwidth"] = 4.5e9
    program = Program((Collective("exchange", "all_to_all", ("x", "y"), 64e6, algorithm="direct"),))
    timeline = simulate(program, network, chip("ideal"))
    return dict(zip(timeline.chips, (int(lead) for lead in timeline.segments[0].stands), strict=True))


def picture() -> str:
    """Return the picture as SVG."""
    found = classes()
    order = {lead: number for number, lead in enumerate(sorted(set(found.values())))}
    wide, high = (SIDE + 0.55) * STEP, (SIDE + 0.9) * STEP
    shapes = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {high:g}" width="{wide:g}" height="{high:g}" '
              'font-family="sans-serif" font-size="13" text-anchor="middle">',
              '<title>A 4x4 torus with one slow link: chips of one colour are simulated as one</title>',
              f'<rect width="{wide:g}" height="{high:g}" fill="#fff"/>']

    def at(x: float, y: float) -> tuple[float, float]:
        return (x + 0.77) * STEP, (SIDE - y) * STEP - 0.25 * STEP

    def line(a: tuple[float, float], b: tuple[float, float], style: str) -> str:
        return f'<line x1="{a[0]:g}" y1="{a[1]:g}" x2="{b[0]:g}" y2="{b[1]:g}" {style}/>'

    thin = 'stroke="#999" stroke-width="2"'
    for place in range(SIDE):
        shapes += [line(at(-0.55, place), at(SIDE - 0.45, place), thin), line(at(place, -0.55), at(place, SIDE - 0.45), thin)]
    shapes.append(line(at(0, 0), at(1, 0), 'stroke="#b00000" stroke-width="7" stroke-dasharray="7 5"'))
    for (x, y), lead in found.items():
        a, b = at(x, y)
        shapes += [f'<circle cx="{a:g}" cy="{b:g}" r="{SIZE}" fill="{COLOURS[order[lead]]}"/>',
                   f'<text x="{a:g}" y="{b + 4:g}" fill="#fff" font-weight="bold">{x},{y}</text>']
    below = high - 0.32 * STEP
    shapes += [f'<text x="{wide / 2:g}" y="{below:g}" fill="#222">16 chips, {len(order)} simulated; one colour: one of '
               'them stands for all</text>',
               f'<text x="{wide / 2:g}" y="{below + 18:g}" fill="#222">red, dashed: the slow link</text>', "</svg>"]
    return "\n".join(shapes) + "\n"


if __name__ == "__main__":
    (HERE / "folding.svg").write_text(picture())
