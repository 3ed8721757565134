"""Lines and bars as SVG, by hand: readable on light and on dark pages, no library."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 70, 190, 50, 50
COLOURS = {
    "light": ("#2b6cb0", "#b7791f", "#2f855a", "#9b2c2c", "#6b46c1", "#2c7a7b", "#97266d", "#4a5568", "#744210"),
    "dark": ("#63b3ed", "#f6ad55", "#68d391", "#fc8181", "#b794f4", "#4fd1c5", "#f687b3", "#cbd5e0", "#ecc94b"),
}
BAR, GAP = 16, 12
STEPS = (1, 2, 2.5, 5, 10)
MOST_MARKS = 8

Points = Sequence[tuple[float, float]]


class Scale:
    """Maps figures to coordinates; logarithmic where the figures span powers of ten."""

    def __init__(self, least: float, most: float, start: float, end: float, *, is_log: bool) -> None:
        self.is_log = is_log
        self.start, self.end = start, end
        self.least, self.most = (log10(least), log10(most)) if is_log else (least, most)

    def __call__(self, value: float) -> float:
        at = log10(value) if self.is_log else value
        share = (at - self.least) / (self.most - self.least) if self.most > self.least else 0.5
        return self.start + share * (self.end - self.start)

    def marks(self) -> list[float]:
        """Round figures: powers of ten, of few also their doubles and halves; else multiples of a round step."""
        if self.is_log:
            powers = range(floor(self.least), ceil(self.most) + 1)
            digits = (1, 2, 5) if self.most - self.least <= 2 else (1,)
            marks = [digit * 10.0**power for power in powers for digit in digits]
            return [mark for mark in marks if self.least - 1e-9 <= log10(mark) <= self.most + 1e-9]
        step = round_step((self.most - self.least) / 6 or 1.0)
        return [step * place for place in range(ceil(self.least / step - 1e-9), floor(self.most / step + 1e-9) + 1)]


def round_step(least: float) -> float:
    power = 10.0 ** floor(log10(least))
    return next(step * power for step in STEPS if step * power >= least * (1 - 1e-9))


def line_chart(
    title: str, x_name: str, y_name: str, lines: Mapping[str, Points], *, log_x: bool = False, log_y: bool = False
) -> str:
    """Draws a line for each name, with a dot at each (x, y). A few x are all marked on the axis."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    lowest = 10 ** floor(log10(min(ys))) if log_y else min(ys) - 0.05 * (max(ys) - min(ys))
    highest = 10 ** ceil(log10(max(ys))) if log_y else max(ys) + 0.05 * (max(ys) - min(ys))
    across = Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT, is_log=log_x)
    up = Scale(lowest, highest, HEIGHT - BOTTOM, TOP, is_log=log_y)
    parts = [f'<text x="{LEFT}" y="24" font-size="15">{escape(title)}</text>']
    for mark in up.marks():
        y = up(mark)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(mark)}</text>')
    measured = sorted(set(xs))
    for mark in measured if len(measured) <= MOST_MARKS else across.marks():
        x = across(mark)
        parts.append(f'<line class="grid" y1="{TOP}" y2="{HEIGHT - BOTTOM}" x1="{x:.1f}" x2="{x:.1f}"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{short(mark)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_name)}</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP - 8}" font-size="11">{escape(y_name)}</text>')
    for place, (name, points) in enumerate(lines.items()):
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in sorted(points))
        parts.append(f'<polyline class="l{place}" points="{path}"/>')
        parts += [f'<circle class="f{place}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="3"/>' for x, y in points]
        y = TOP + 18 * place
        parts.append(f'<rect class="f{place}" x="{WIDTH - RIGHT + 14}" y="{y}" width="10" height="10"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 30}" y="{y + 9}">{escape(name)}</text>')
    return page(title, HEIGHT, parts)


def bar_charts(title: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Draws a group of bars for each measure, a bar for each name. A group has its own scale, a name its own colour."""
    colours = {name: place for place, name in enumerate(dict.fromkeys(n for bars in groups.values() for n in bars))}
    parts = [f'<text x="{GAP}" y="24" font-size="15">{escape(title)}</text>']
    y, left = TOP, 190
    for measure, bars in groups.items():
        parts.append(f'<text x="{GAP}" y="{y + 12}" font-weight="bold">{escape(measure)}</text>')
        y += BAR + 4
        most = max(bars.values()) or 1.0
        for name, value in bars.items():
            length = (WIDTH - left - 90) * value / most
            parts.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>')
            shape = f'x="{left}" y="{y}" width="{length:.1f}" height="{BAR - 3}"'
            parts.append(f'<rect class="f{colours[name]}" {shape}/>')
            parts.append(f'<text x="{left + length + 6:.1f}" y="{y + 11}" font-size="11">{short(value)}</text>')
            y += BAR
        y += GAP
    return page(title, y + GAP, parts)


def short(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    if value >= 10_000:
        return f"{value / 1_000:.3g}k"
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def page(title: str, height: int, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{escape(title)}">'
    )
    return "\n".join([head, style(), f'<rect class="page" width="{WIDTH}" height="{height}"/>', *parts, "</svg>", ""])


def style() -> str:
    def rules(paper: str, ink: str, grid: str, colours: tuple[str, ...]) -> str:
        declarations = [f".page {{ fill: {paper} }} text {{ fill: {ink} }} .grid {{ stroke: {grid} }}"]
        for place, colour in enumerate(colours):
            declarations.append(
                f".f{place} {{ fill: {colour} }} .l{place} {{ stroke: {colour}; fill: none; stroke-width: 2 }}"
            )
        return " ".join(declarations)

    light = rules("#ffffff", "#1a202c", "#e2e8f0", COLOURS["light"])
    dark = rules("#1a202c", "#edf2f7", "#2d3748", COLOURS["dark"])
    return f"<style>{light} @media (prefers-color-scheme: dark) {{ {dark} }}</style>"
