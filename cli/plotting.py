"""Draws a bar chart as SVG, readable on light and on dark pages. Imports nothing of kameleon's."""

from collections.abc import Mapping
from html import escape

WIDTH, LEFT, BAR, GAP, TOP = 640, 120, 14, 14, 56
COLOURS = {"light": ("#2b6cb0", "#b7791f", "#2f855a"), "dark": ("#63b3ed", "#f6ad55", "#68d391")}


def bar_chart(title: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """One group of bars a name, a bar for each figure from 0 to 1. All groups have the same figures."""
    figures = list(next(iter(groups.values())))
    height = TOP + len(groups) * (len(figures) * BAR + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{escape(title)}">',
        f"<style>{_style()}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        f'<text x="{GAP}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for place, figure in enumerate(figures):
        x = LEFT + place * 130
        parts.append(f'<rect class="f{place}" x="{x}" y="32" width="10" height="10"/>')
        parts.append(f'<text x="{x + 15}" y="41">{escape(figure)}</text>')
    y = TOP
    for name, values in groups.items():
        middle = y + len(figures) * BAR / 2 + 4
        parts.append(f'<text x="{LEFT - 8}" y="{middle:g}" text-anchor="end">{escape(name)}</text>')
        for place, value in enumerate(values.values()):
            length = (WIDTH - LEFT - 60) * min(1.0, max(0.0, value))
            parts.append(f'<rect class="f{place}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 2}"/>')
            parts.append(f'<text x="{LEFT + length + 5:.1f}" y="{y + BAR - 4}" font-size="10">{value:.3f}</text>')
            y += BAR
        y += GAP
    return "\n".join([*parts, "</svg>", ""])


def _style() -> str:
    def rules(page: str, ink: str, colours: tuple[str, ...]) -> str:
        bars = " ".join(f".f{place} {{ fill: {colour} }}" for place, colour in enumerate(colours))
        return f".page {{ fill: {page} }} text {{ fill: {ink} }} {bars}"

    dark = rules("#1a202c", "#edf2f7", COLOURS["dark"])
    return f"{rules('#ffffff', '#1a202c', COLOURS['light'])} @media (prefers-color-scheme: dark) {{ {dark} }}"
