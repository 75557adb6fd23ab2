"""``python -m bench.profile``: in which room the bytecodes of a login are, for docs/performance.md."""

import os
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from bench.replay import BATCH, replay
from bench.report import write_profile

PACKAGE = str(Path(__file__).parent.parent / "authlua") + os.sep


def count() -> tuple[Counter[CodeType], Counter[CodeType]]:
    """Bytecodes and calls of one batch, by function."""
    batch = replay("login")
    for _ in range(3):
        batch()
    bytecodes: Counter[CodeType] = Counter()
    calls: Counter[CodeType] = Counter()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if event == "call":
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
            calls[frame.f_code] += 1
        elif event == "opcode":
            bytecodes[frame.f_code] += 1
        return trace

    sys.settrace(trace)
    batch()
    sys.settrace(None)
    del bytecodes[batch.__code__]
    return bytecodes, calls


def room(code: CodeType) -> str:
    """The room a function is in, or the library."""
    path = code.co_filename
    if path.startswith(PACKAGE):
        return path.removeprefix(PACKAGE).partition(os.sep)[0]
    if path.startswith("<"):
        return "made at run time (named tuples, templates)"
    return path.rpartition("site-packages" + os.sep)[2].partition(os.sep)[0] if "site-packages" in path else "Python"


def main() -> None:
    """Print the dearest functions, and keep the rooms for the page."""
    bytecodes, calls = count()
    rooms: Counter[str] = Counter()
    for code, number in bytecodes.items():
        rooms[room(code)] += number
    for code, number in bytecodes.most_common(25):
        print(f"{number / BATCH:7.1f} in {calls[code] / BATCH:4.1f} calls  {room(code)}:{code.co_qualname}")
    write_profile(
        {
            "total": sum(rooms.values()) / BATCH,
            "calls": sum(calls.values()) / BATCH,
            "rooms": {name: number / BATCH for name, number in rooms.most_common()},
        }
    )


if __name__ == "__main__":
    main()
