"""Writes a session and what a server answered to it as a dialogue."""

import re

from authlua.conformance.compare import is_late
from authlua.conformance.play import Heard, Transcript
from authlua.conformance.sessions import HangUp, Open, Say, Session

_CHANGING = re.compile(rb"^(SPID|CUID|COOKIE)\t.*")
_TOKEN = re.compile(rb"(?<=\tauth_token=)[0-9a-f]{40}(?=\t|$)")


def dialogue(session: Session, transcript: Transcript, *comments: str) -> str:
    """*session* as the text of a dialogue that holds where *transcript* was heard; *comments* stand on top.

    Late answers stand at the end, in any order, and how the bytes were cut is lost.
    """
    lines = [f"# {comment}" for comment in comments]
    lines.append(f"# profile: {session.profile}")
    left: dict[str, list[Heard]] = {}
    for heard in transcript:
        left.setdefault(heard.name, []).append(heard)
    current: dict[str, Heard] = {}
    told: dict[str, int] = {}
    for step in session.steps:
        name = step.name
        match step:
            case Open(_, kind, hello):
                if name in current:
                    lines += _late(current[name])
                current[name] = left[name].pop(0)
                told[name] = 0
                lines.append(f"@open {kind} as {name} raw")
                said = hello
            case Say(_, data):
                said = data
            case HangUp():
                if name in current:
                    lines += _late(current.pop(name))
                    lines.append(f"@close {name}")
                continue
        if name not in current or told[name] >= len(current[name].ends):
            continue
        heard = current[name]
        lines += [f"C {name}: {_shown(one)}" for one in said.split(b"\n")[:-1]]
        before = heard.ends[told[name] - 1] if told[name] else 0
        after = heard.ends[told[name]]
        told[name] += 1
        lines += [f"S {name}: {_expected(one)}" for one in heard.lines[before:after] if not is_late(heard, one)]
        if heard.closed and told[name] == len(heard.ends):
            lines.append(f"S {name}: <closed>")
            del current[name]
    for heard in current.values():
        lines += _late(heard)
    return "\n".join(lines) + "\n"


def _late(heard: Heard) -> list[str]:
    return [f"S~ {heard.name}: {_expected(line)}" for line in heard.lines if is_late(heard, line)]


def _expected(line: bytes) -> str:
    line = _TOKEN.sub(b"*", _CHANGING.sub(rb"\1\t*", line))
    return _shown(line)


def _shown(line: bytes) -> str:
    if len(line) > 900:  # what matters of it is its length
        head = line.rstrip(b"y")
        return f"{_shown(head)}FILL({len(line) + 1})"
    text = line.decode("latin-1").replace("\\", "\\\\")
    text = re.sub(r"[^\t -~]", lambda match: f"\\x{ord(match[0]):02x}", text)
    return text[: len(text.rstrip())] + text[len(text.rstrip()) :].replace("\t", "\\t").replace(" ", "\\x20")
