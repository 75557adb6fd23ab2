"""Compares what two servers answered to the same session.

What says nothing is taken out first:

* pids, cookies and connection numbers (`play` has put names in their places);
* the order of fields, which a Lua table decides, and of what may overtake what: delayed failures of clients, and all
  answers to masters;
* delayed failures of a connection that the server has closed: whether they were told before is a matter of time.

Then the differences that are meant, `KNOWN`, are taken out of what the reference said.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from authlua.conformance.play import Heard, Transcript
from authlua.conformance.sessions import CLIENTS

_IMMEDIATE = re.compile(
    rb"FAIL\t\d+\t(?:code=invalid_base64\t)?reason="
    rb"(?:Authentication request timed out|Unexpected continuation|"
    rb"Invalid base64 data in (?:initial|continued) response)$"
)


class Known(NamedTuple):
    """A difference that is meant (docs/differences.md), narrow enough to hide no other."""

    name: str
    dialect: str
    """``2.3`` or ``2.4``: whose reference shows it."""
    why: str
    expected: Callable[[bytes], bytes | None]
    """From a line of the reference to authlua's; `None`: authlua does not say it."""


def _without_empty_field(line: bytes) -> bytes:
    """2.3 leaves an empty field where all it had to tell was hidden."""
    if line.startswith((b"OK\t", b"PASS\t", b"FAIL\t")):
        head, *fields = line.split(b"\t")
        return b"\t".join([head, *filter(None, fields)])
    return re.sub(rb"^(USER\t\d+\t[^\t]*)\t(?=\t)", rb"\1", line)


def _rewritten(pattern: bytes, replacement: bytes) -> Callable[[bytes], bytes]:
    compiled = re.compile(pattern)
    return lambda line: compiled.sub(replacement, line)


KNOWN: tuple[Known, ...] = (
    Known(
        "a value that is no value",
        "2.3",
        "2.3.19 tells a field whose value is a table or function as an empty one; 2.3.21 does not",
        lambda line: (
            re.sub(rb"^(USER\t\d+\t[^\t]*)$", rb"\1\t", re.sub(rb"\t(?:func|tab)(?=\t|$)", b"", line))
            if re.search(rb"\t(?:func|tab)(?=\t|$)", line)
            else line
        ),
    ),
    Known(
        "a reason that is not escaped",
        "2.3",
        "a TAB in it would begin another field",
        _rewritten(rb"^(FAIL\t\d+\treason=Come)\t(?=back$)", rb"\1\001t"),
    ),
    Known(
        "a reason that is not escaped",
        "2.4",
        "a TAB in it would begin another field",
        _rewritten(rb"^(FAIL\t\d+\treason=Come)\t(?=back$)", rb"\1\001t"),
    ),
    Known(
        "a listed name is cut at its TAB",
        "2.4",
        "the name is another one then",
        _rewritten(rb"^(LIST\t\d+\ttab)$", rb"\1\001there"),
    ),
    Known(
        "an empty field",
        "2.4",
        "it means nothing, and every client passes over it",
        _rewritten(rb"^(USER\t\d+\t[^\t]*\tlocal_name=[^\t]*)\t(?=\t|$)", rb"\1"),
    ),
    Known("an empty field", "2.3", "it means nothing, and every client passes over it", _without_empty_field),
)


class Difference(NamedTuple):
    """Where two transcripts part."""

    connection: str
    only_subject: Sequence[bytes]
    only_reference: Sequence[bytes]

    def __str__(self) -> str:
        lines = [f"connection {self.connection}:"]
        lines += [f"  only the subject:   {line!r}" for line in self.only_subject]
        lines += [f"  only the reference: {line!r}" for line in self.only_reference]
        return "\n".join(lines)

    @property
    def signature(self) -> str:
        """The same for what is probably the same difference."""
        return "|".join(
            [",".join(sorted({_sort_of(line) for line in lines})) for lines in (self.only_subject, self.only_reference)]
        )


def compare(
    subject: Transcript, reference: Transcript, dialect: str, used: Counter[str] | None = None
) -> Difference | None:
    """The first connection on which they differ.

    Args:
        used: counts how often each known difference was met.
    """
    if [heard.name for heard in subject] != [heard.name for heard in reference]:
        raise AssertionError("both are transcripts of the same session")
    for ours, theirs in zip(subject, reference, strict=True):
        closed = ours.closed or theirs.closed
        expected = _expected(theirs, dialect, used)
        ordered, loose = _parts(ours, ours.lines, closed)
        their_ordered, their_loose = _parts(theirs, expected, closed)
        end = [f"<{ours.silent} answers missing>".encode()] * bool(ours.silent) + [b"<closed>"] * ours.closed
        their_end = [f"<{theirs.silent} answers missing>".encode()] * bool(theirs.silent) + [
            b"<closed>"
        ] * theirs.closed
        mine, yours = [*ordered, *end], [*their_ordered, *their_end]
        if mine != yours or loose != their_loose:
            name = f"{ours.name} ({ours.kind})"
            if Counter(mine) + loose == Counter(yours) + their_loose:
                return Difference(name, mine, yours)
            left = Counter(mine) + loose
            right = Counter(yours) + their_loose
            return Difference(name, sorted((left - right).elements()), sorted((right - left).elements()))
    return None


def _expected(heard: Heard, dialect: str, used: Counter[str] | None) -> list[bytes]:
    lines: list[bytes] = []
    for line in heard.lines:
        told: bytes | None = line
        for known in KNOWN:
            if known.dialect == dialect and told is not None:
                before, told = told, known.expected(told)
                if told != before and used is not None:
                    used[known.name] += 1
        if told is not None:
            lines.append(told)
    return lines


def _parts(heard: Heard, lines: Sequence[bytes], closed: bool) -> tuple[list[bytes], Counter[bytes]]:
    """The lines whose order counts, and the others."""
    ordered: list[bytes] = []
    loose: Counter[bytes] = Counter()
    is_client = heard.kind in CLIENTS
    for line in lines:
        late = is_late(heard, line)
        if late and closed:
            continue
        told = _without_order(line)
        if late or (
            not is_client and line.startswith((b"USER\t", b"PASS\t", b"NOTFOUND\t", b"LIST\t", b"OK\t", b"DONE\t"))
        ):
            loose[told] += 1
        else:
            ordered.append(told)
    return ordered, loose


def is_late(heard: Heard, line: bytes) -> bool:
    """Whether *line* may come after the answers to later questions: a failure that a delay may hold back."""
    return line.startswith(b"FAIL\t") and not (heard.kind in CLIENTS and _IMMEDIATE.match(line))


def _without_order(line: bytes) -> bytes:
    word, _, rest = line.partition(b"\t")
    if word not in (b"OK", b"FAIL", b"PASS", b"USER"):
        return line
    fields = rest.split(b"\t")
    first = 2 if word == b"USER" or (len(fields) > 1 and fields[1].startswith(b"user=")) else 1
    return b"\t".join([word, *fields[:first], *sorted(fields[first:])])


def _sort_of(line: bytes) -> str:
    """A line without what varies: its word, and its fields' names."""
    word, *fields = line.decode("utf-8", "replace").split("\t")
    names = [field.partition("=")[0] for field in fields[1:]]
    names = [name if re.fullmatch(r"[a-z_ -]{1,30}", name) else "*" for name in names]
    code = [field for field in fields if field.startswith("code=")]
    return " ".join([word, *(name for name in names if not name.startswith(("v_", "x_"))), *code])
