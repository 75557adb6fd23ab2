"""What was measured, as tables and a picture in docs/performance.md."""

import json
from typing import Any

from bench.load import CACHE
from bench.servers import ROOT

RESULTS = CACHE / "results.json"
PAGE = ROOT / "docs/performance.md"
PICTURE = ROOT / "docs/performance.svg"
TARGET = {"inline": "2 times Dovecot with `blocking=no`", "workers": "2 times Dovecot with `blocking=yes`"}


def load_results() -> dict[str, Any]:
    """What earlier runs measured."""
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def save(results: dict[str, Any]) -> None:
    """Keep *results*, and renew the page."""
    CACHE.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1))
    page = PAGE.read_text()
    if "throughput" in results:
        page = _between(page, "throughput", _throughput(results["throughput"]))
        PICTURE.write_text(picture(results["throughput"]))
    page = _between(page, "targets", _targets(results))
    if "profile" in results:
        page = _between(page, "profile", _profile(results["profile"]))
    PAGE.write_text(page)


def _between(page: str, mark: str, text: str) -> str:
    """*page* with *text* between its two comments named *mark*."""
    head, begin, rest = page.partition(f"<!-- {mark} -->\n")
    _, end, tail = rest.partition(f"<!-- /{mark} -->\n")
    if not begin or not end:
        raise ValueError(f"{PAGE}: no place for {mark}")
    return f"{head}{begin}{text}{end}{tail}"


def _throughput(found: dict[str, Any]) -> str:
    lines = [f"{found['when']}, {found['machine']}; {found['rounds']} rounds of {found['seconds']:g} s."]
    for mode, title in ("inline", "The script in the server"), ("workers", "The script in workers"):
        lines += [
            "",
            f"**{title}**",
            "",
            "| | authlua | Dovecot | ratio | authlua p50, p99 | Dovecot p50, p99 | processor time a login |",
            "|---|---|---|---|---|---|---|",
        ]
        for point in [*found[mode], *found[mode + " userdb"], *found.get(mode + " plain", ())]:
            ours, theirs = point["authlua"], point["Dovecot"]
            what = f"{point['connections']:,} x {point['inflight']}"
            if point is found[mode + " userdb"][0]:
                what += " userdb lookups"
            elif point in found.get(mode + " plain", ()):
                what += " in plain Python"
            lines.append(
                f"| {what} | {ours['per_second']:,.0f} | {theirs['per_second']:,.0f} | {point['ratio']:.2f} "
                f"| {_ms(ours['p50'])}, {_ms(ours['p99'])} | {_ms(theirs['p50'])}, {_ms(theirs['p99'])} "
                f"| {ours['cpu']:.0f} µs, Dovecot {theirs['cpu']:.0f} µs |"
            )
    return "\n".join(lines) + "\n"


def _ms(microseconds: float) -> str:
    return f"{microseconds / 1e3:.2f} ms" if microseconds < 10e3 else f"{microseconds / 1e3:.0f} ms"


def _targets(results: dict[str, Any]) -> str:
    lines = ["| what | target | measured | | how to repeat |", "|---|---|---|---|---|"]
    if "throughput" in results:
        found = results["throughput"]
        for mode, target in TARGET.items():
            ratios = [point["ratio"] for point in found[mode]]
            measured = f"{min(ratios):.2f} to {max(ratios):.2f} times over all shapes"
            setting = "`use_worker = true`" if mode == "workers" else "`use_worker = false`"
            lines.append(_line(f"trivial script, {setting}", f"≥ {target}", measured, min(ratios) >= 2, "throughput"))
        rates = [point["authlua"]["per_second"] for point in found["inline"] if point["connections"] != 1]
        share = rates[-1] / max(rates)
        lines.append(
            _line(
                "throughput at 4,000 connections",
                "≥ 75 % of its best",
                f"{share:.0%} of the best with more than one connection",
                share >= 0.75,
                "throughput",
            )
        )
    for name, rows in results.get("rows", {}).items():
        lines += [_line(row["what"], row["target"], row["measured"], row["met"], name) for row in rows]
    return "\n".join(lines) + "\n"


def _line(what: str, target: str, measured: str, met: bool | None, how: str) -> str:
    verdict = {True: "met", False: "**missed**", None: "undecided"}[met]
    return f"| {what} | {target} | {measured} | {verdict} | `make bench ROWS={how}` |"


def _profile(found: dict[str, Any]) -> str:
    lines = [
        f"{found['total']:,.0f} bytecodes and {found['calls']:.0f} calls a login.",
        "",
        "| room | bytecodes | share |",
    ]
    lines.append("|---|---|---|")
    lines += [f"| {room} | {count:,.0f} | {count / found['total']:.0%} |" for room, count in found["rooms"].items()]
    return "\n".join(lines) + "\n"


# --- the picture -----------------------------------------------------------------

WIDTH, HEIGHT, MARGIN, TOP = 420, 260, 60, 40
COLOURS = {"authlua": "#c2410c", "Dovecot": "#1d4ed8"}
CONNECTIONS = [1, 50, 1000, 4000]


def picture(found: dict[str, Any]) -> str:
    """Throughput and p99 over the number of connections, one request in flight on each."""
    panels = [
        _panel(found, 0, "per_second", "logins a second", lambda value: f"{value:,.0f}"),
        _panel(found, WIDTH + MARGIN, "p99", "p99, milliseconds", lambda value: f"{value / 1e3:,.0f}"),
    ]
    size = f'width="{2 * (WIDTH + MARGIN)}" height="{HEIGHT + TOP + 60}"'
    style = "<style>text { font: 12px sans-serif } .title { font-weight: bold }</style>"
    paper = '<rect width="100%" height="100%" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}{paper}\n' + "\n".join(panels) + "\n</svg>\n"


def _panel(found: dict[str, Any], left: int, key: str, title: str, label: Any) -> str:
    series = {
        (name, mode): {p["connections"]: p[name][key] for p in found[mode] if p["inflight"] == 1}
        for name in COLOURS
        for mode in TARGET
    }
    top = max(max(points.values()) for points in series.values()) * 1.1
    bottom = TOP + HEIGHT
    step = (WIDTH - MARGIN - 20) / (len(CONNECTIONS) - 1)
    place = {count: left + MARGIN + 10 + number * step for number, count in enumerate(CONNECTIONS)}
    parts = [f'<text class="title" x="{left + MARGIN}" y="{TOP - 16}">{title}</text>']
    for quarter in range(5):
        y = bottom - HEIGHT * quarter / 4
        parts.append(f'<line x1="{left + MARGIN}" x2="{left + WIDTH}" y1="{y:.0f}" y2="{y:.0f}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{left + MARGIN - 6}" y="{y + 4:.0f}" text-anchor="end">{label(top * quarter / 4)}</text>'
        )
    for count, x in place.items():
        parts.append(f'<text x="{x:.0f}" y="{bottom + 18}" text-anchor="middle">{count:,}</text>')
    parts.append(f'<text x="{left + WIDTH / 2 + 30:.0f}" y="{bottom + 36}" text-anchor="middle">connections</text>')
    for number, ((name, mode), points) in enumerate(series.items()):
        line = " ".join(f"{place[count]:.0f},{bottom - HEIGHT * value / top:.0f}" for count, value in points.items())
        dash = ' stroke-dasharray="5 4"' if mode == "workers" else ""
        stroke = f'stroke="{COLOURS[name]}"{dash}'
        parts.append(f'<polyline points="{line}" fill="none" stroke-width="2" {stroke}/>')
        if left == 0:
            x, y = MARGIN + number * 210, bottom + 54
            parts.append(f'<line x1="{x}" x2="{x + 24}" y1="{y - 4}" y2="{y - 4}" stroke-width="2" {stroke}/>')
            words = f"{name}, {'script in workers' if mode == 'workers' else 'script in the server'}"
            parts.append(f'<text x="{x + 30}" y="{y}">{words}</text>')
    return "\n".join(parts)
