"""What was measured, as tables and a picture in docs/performance.md."""

from collections.abc import Iterable, Iterator
from typing import Any

from bench.rows import Row
from bench.servers import ROOT

PAGE = ROOT / "docs/performance.md"
PICTURE = ROOT / "docs/performance.svg"
TARGET = {"inline": "2 times Dovecot with `blocking=no`", "workers": "2 times Dovecot with `blocking=yes`"}
VERDICT = {True: "met", False: "**missed**", None: "undecided"}


def write_throughput(found: dict[str, Any]) -> None:
    """Renew the tables of logins a second, the picture and the targets that follow from them."""
    PAGE.write_text(_between(PAGE.read_text(), "throughput", _throughput(found)))
    PICTURE.write_text(picture(found))
    write_rows("throughput", _throughput_rows(found))


def write_rows(name: str, rows: Iterable[Row]) -> None:
    """Renew what the table of targets says of the rows that ``make bench ROWS=name`` measures; the others stay."""
    page = PAGE.read_text()
    how = f"`make bench ROWS={name}` |"
    table = page.partition("<!-- targets -->\n")[2].partition("<!-- /targets -->\n")[0].splitlines()
    place = next((number for number, line in enumerate(table) if line.endswith(how)), len(table))
    table = [line for line in table if not line.endswith(how)]
    table[place:place] = [f"| {row.what} | {row.target} | {row.measured} | {VERDICT[row.met]} | {how}" for row in rows]
    PAGE.write_text(_between(page, "targets", "\n".join(table) + "\n"))


def write_profile(found: dict[str, Any]) -> None:
    """Renew the table of bytecodes."""
    PAGE.write_text(_between(PAGE.read_text(), "profile", _profile(found)))


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


def _throughput_rows(found: dict[str, Any]) -> Iterator[Row]:
    for mode, target in TARGET.items():
        ratios = [point["ratio"] for point in found[mode]]
        measured = f"{min(ratios):.2f} to {max(ratios):.2f} times over all shapes"
        setting = "`use_worker = true`" if mode == "workers" else "`use_worker = false`"
        yield Row(f"trivial script, {setting}", f"≥ {target}", measured, min(ratios) >= 2)
    rates = [point["authlua"]["per_second"] for point in found["inline"] if point["connections"] != 1]
    share = rates[-1] / max(rates)
    measured = f"{share:.0%} of the best with more than one connection"
    yield Row("throughput at 4,000 connections", "≥ 75 % of its best", measured, share >= 0.75)


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
