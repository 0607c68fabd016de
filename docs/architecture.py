#!/usr/bin/env python3
"""Draws the rooms of src/ and their imports, from the imports themselves, as docs/architecture.svg.

A room stands on the lowest floor above everything that it imports; its width grows with its lines. An arrow that follows from
two others is left out, so that the picture shows the order and not every import. `<desc>` lists all of them: a test compares
it with the sources.
"""

import math
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = {"main", "lib"}
WORDS = {
    "cli": "what was typed → a request", "tools": "bench, quantize", "pipeline": "session, denoise, decode, run, recipe",
    "families": "wan, ltx, text, vae; the registry", "plan": "what will happen, no tensors", "nn": "layers",
    "model": "a model on disk", "weights": "one view over every format", "request": "what was asked for",
    "media": "films, images", "hub": "downloads", "sampling": "noise, schedules, steppers", "compute": "devices, kernels",
    "audio": "waveforms", "files": "atomic writes, home", "progress": "events", "fps": "exact rates", "error": "errors",
}


def room(path):
    return path.relative_to(ROOT / "src").parts[0].removesuffix(".rs")


def names(text):
    """First names of the paths that begin at the crate's root."""
    text = "\n".join(line.split("//")[0] for line in text.splitlines())
    for rest in re.finditer(r"(?<![\w])(?:crate|talkie)::(\{[^;]*?\}|\w+)", text):
        group = rest.group(1)
        if group.startswith("{"):
            yield from re.findall(r"(?:^\{|,)\s*(\w+)", re.sub(r"\{[^{}]*\}", "", group[1:-1]).join("{}"))
        else:
            yield group


def graph():
    lines, uses = {}, {}
    for path in sorted((ROOT / "src").rglob("*.rs")):
        text, own = path.read_text(), room(path)
        if own in LEFT_OUT:
            continue
        lines[own] = lines.get(own, 0) + len(text.splitlines())
        uses.setdefault(own, set()).update(names(text))
    return lines, {own: {used for used in of if used in uses and used != own} for own, of in uses.items()}


def floors(uses):
    def floor(own, above=()):
        if own in above:
            raise SystemExit(f"a circle: {' -> '.join((*above, own))}")
        return 1 + max((floor(used, (*above, own)) for used in uses[own]), default=0)
    return {own: floor(own) for own in uses}


def reached(uses, own):
    found, left = set(), list(uses[own])
    while left:
        next_ = left.pop()
        if next_ not in found:
            found.add(next_)
            left.extend(uses[next_])
    return found


def straight(uses):
    """Arrows that no longer way stands for."""
    for own, of in uses.items():
        for used in sorted(of):
            if not any(used in reached(uses, other) for other in of - {used}):
                yield own, used


def draw(lines, uses):
    level = floors(uses)
    rows = {}
    for own in uses:
        rows.setdefault(level[own], []).append(own)
    wide = {own: max(150, 46 * math.log2(1 + lines[own] / 60)) for own in uses}
    width = 40 + max(sum(wide[own] + 24 for own in row) for row in rows.values())
    top, place, parts = max(rows), {}, []
    for floor, row in rows.items():
        row.sort(key=lambda own: -lines[own])
        sizes = [wide[own] for own in row]
        x = (width - sum(sizes) - 24 * (len(row) - 1)) / 2
        for own, size in zip(row, sizes):
            place[own] = (x, 20 + (top - floor) * 92, size)
            x += size + 24
    for own, used in straight(uses):
        (x, y, w), (u, v, t) = place[own], place[used]
        a, b, c, d = x + w / 2, y + 50, u + t / 2, v
        parts.append(f'<path d="M{a:.0f} {b:.0f} C{a:.0f} {b + 30:.0f} {c:.0f} {d - 30:.0f} {c:.0f} {d:.0f}"/>')
    for own, (x, y, w) in place.items():
        middle = x + w / 2
        parts.append(f'<rect x="{x:.0f}" y="{y}" width="{w:.0f}" height="50" rx="6"/>')
        parts.append(f'<text class="name" x="{middle:.0f}" y="{y + 21}">{own} <tspan>{lines[own]}</tspan></text>')
        parts.append(f'<text x="{middle:.0f}" y="{y + 39}">{WORDS.get(own, "")}</text>')
    desc = "\n".join(f"{own}: {' '.join(sorted(of))}" for own, of in sorted(uses.items()))
    style = ("rect{fill:#f6f8fa;stroke:#57606a}path{fill:none;stroke:#8c959f}text{font:11px sans-serif;text-anchor:middle;"
             "fill:#57606a}.name{font:bold 14px sans-serif;fill:#1f2328}tspan{font:11px sans-serif;fill:#8c959f}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {40 + top * 92}">\n<title>Rooms of src/, each above '
            f'what it imports</title>\n<desc>\n{desc}\n</desc>\n<style>{style}</style>\n<rect width="100%" height="100%" '
            f'style="fill:#fff;stroke:none"/>\n' + "\n".join(parts) + "\n</svg>\n")


if __name__ == "__main__":
    (ROOT / "docs/architecture.svg").write_text(draw(*graph()))
