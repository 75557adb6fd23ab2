"""The player of dialogues notices what it is there to notice."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from authlua.conformance import dialogue as d
from authlua.conformance.raw import SilenceError

Answers = dict[bytes, Sequence[bytes | None]]

GREETING = [b"VERSION\t1\t2", b"MECH\tPLAIN\tplaintext", b"SPID\t7", b"CUID\t1", b"COOKIE\t" + b"a" * 32, b"DONE"]
OF_ITSELF: Answers = {
    b"AUTH\t4294967294": [b"FAIL\t4294967294\tuser=ok@x"],
    b"CONT\t4294967293": [b"FAIL\t4294967293\treason=Authentication request timed out"],
}


class Parrot:
    """A conversation in which each line that begins so is answered so; None hangs up."""

    peer_pid = 1

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.heard: list[bytes] = []
        self.due: list[bytes | None] = [*GREETING]

    def send(self, data: bytes) -> None:
        self.heard.append(data)
        for line in data.split(b"\n"):
            self.due += next((said for start, said in self.answers.items() if line.startswith(start)), [])

    async def receive(self) -> bytes | None:
        if not self.due:
            raise SilenceError("the server said nothing more")
        return self.due.pop(0)

    def waiting(self) -> bytes:
        return b"".join(line + b"\n" for line in self.due if line)

    def close(self) -> None:
        self.due.clear()


class ParrotTarget:
    """A server of parrots."""

    def __init__(self, dialect: str = "2.3", subject: str = "authlua", **answers: Sequence[bytes | None]) -> None:
        self.dialect = dialect
        self.subject = subject
        self.conversations: list[Parrot] = []
        self.answers = OF_ITSELF | {word.encode(): said for word, said in answers.items()}

    def open(self, kind: str, *, uid: int | None = None) -> Parrot:
        self.conversations.append(Parrot(self.answers))
        return self.conversations[-1]


@pytest.fixture
def written(tmp_path: Path):
    """A dialogue on one login connection with these lines."""

    def write(*lines: str) -> d.Dialogue:
        path = tmp_path / "some.txt"
        path.write_text("# It shows.\n# rows: 1\n@open login\n" + "\n".join(lines) + "\n")
        return d.parse(path)

    return write


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ("OK\t1\tuser=a", b"OK\t1\tuser=b"),
        ("OK\t1\tuser=a", b"OK\t1\tuser=a\tmore"),
        ("OK\t1\tuser=a\tmore", b"OK\t1\tuser=a"),
        ("OK\t1\tuser=a\tx=1\toriginal_user=b", b"OK\t1\tuser=a\toriginal_user=b\tx=1"),
        ("OK\t1\tx=1\tuser=a", b"OK\t1\tuser=a\tx=1"),
        ("OK\t1\tuser=a\tx=1\tx=1", b"OK\t1\tuser=a\tx=1\tx=2"),
        ("FAIL\t1\tuser=a\tcode=temp_fail", b"FAIL\t1\tcode=temp_fail\tuser=a"),
        ("FAIL\t1", b"FAIL\t1\t"),
        ("CONT\t1\tx", b"CONT\t1\ty"),
        ("USER\t1\ta\tauth_mech=*", b"USER\t1\tb\tauth_mech=PLAIN"),
        ("USER\t1\ta\tuid=1\tauth_mech=PLAIN", b"USER\t1\ta\tauth_mech=PLAIN\tuid=1"),
        ("OK\t1\tuser=*", b"OK\t1\tuser=a\tb"),
        ("OK\t1\tuser={peer}", b"OK\t1\tuser=2"),
        ("<closed>", b"OK\t1"),
        ("OK\t1", None),
    ],
)
def test_another_answer_is_noticed(expected, said, written):
    """One field more, less, different or out of its place is another answer; so is the end."""
    with pytest.raises(AssertionError, match="expected"):
        d.play_blocking(written("C: GO", f"S: {expected}"), ParrotTarget(GO=[said]))


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ("OK\t1\tuser=a\tx=1\ty=2", b"OK\t1\tuser=a\ty=2\tx=1"),
        ("OK\t1\tuser=*\tx*", b"OK\t1\tuser=a\tx=1"),
        ("USER\t1\ta\tuid=1\tgid=2\tauth_mech=PLAIN", b"USER\t1\ta\tgid=2\tuid=1\tauth_mech=PLAIN"),
        (r"LIST\t1\ta\x01tb", b"LIST\t1\ta\x01tb"),
        ("OK\t1\tuser={cookie}", b"OK\t1\tuser=" + b"a" * 32),
    ],
)
def test_the_same_answer_is_the_same(expected, said, written):
    """Free order, wildcards, escapes and words."""
    d.play_blocking(written("C: GO", f"S: {expected}"), ParrotTarget(GO=[said]))


def test_one_answer_too_many_breaks_the_silence(written):
    """The mistake this is all about: a FAIL, and an OK right behind it."""
    with pytest.raises(AssertionError, match="got OK") as caught:
        d.play_blocking(written("C: GO", "S: FAIL\t1"), ParrotTarget(GO=[b"FAIL\t1", b"OK\t1\tuser=a"]))
    assert "the silence at its end" in caught.value.__notes__[0]


def test_an_answer_after_the_delay_breaks_the_silence(written):
    """What comes together with, or behind, a late answer is noticed as well."""
    late = ParrotTarget()
    late.answers[b"AUTH\t4294967294"] = [b"FAIL\t4294967294\tuser=ok@x", b"FAIL\t1"]
    with pytest.raises(AssertionError, match="got FAIL"):
        d.play_blocking(written("C: GO"), late)


def test_no_answer_is_noticed(written):
    """What was due and did not come."""
    with pytest.raises(AssertionError, match="nothing more"):
        d.play_blocking(written("C: GO", "S: OK\t1"), ParrotTarget())


def test_one_of_a_set_missing_or_foreign_is_noticed(written):
    """Any order is not any line."""
    file = written("C: GO", "S~: OK\t1", "S~: OK\t2")
    d.play_blocking(file, ParrotTarget(GO=[b"OK\t2", b"OK\t1"]))
    for said in ([b"OK\t2", b"OK\t2"], [b"OK\t1"]):
        with pytest.raises(AssertionError):
            d.play_blocking(file, ParrotTarget(GO=said))


def test_something_where_nothing_is_due_is_noticed(written):
    """`<nothing>` looks at what is there."""
    with pytest.raises(AssertionError, match="nothing is due"):
        d.play_blocking(written("C: GO", "S: <nothing>"), ParrotTarget(GO=[b"OK\t1"]))


def test_a_word_once_heard_can_be_expected(written):
    """`{word:*}` keeps what it stood for."""
    file = written("C: GO", "S: OK\t1\tuser={name:*}", "C: ON", "S: OK\t2\tuser={name}")
    d.play_blocking(file, ParrotTarget(GO=[b"OK\t1\tuser=a"], ON=[b"OK\t2\tuser=a"]))
    with pytest.raises(AssertionError, match="user=a, got"):
        d.play_blocking(file, ParrotTarget(GO=[b"OK\t1\tuser=a"], ON=[b"OK\t2\tuser=b"]))


def test_a_tagged_line_is_for_those_it_names(written):
    """Dialect, subject, or both together."""
    file = written("C: GO", "[2.3] S: A", "[2.4] S: B", "[2.3 authlua] S: C", "[dovecot] S: D")
    d.play_blocking(file, ParrotTarget("2.3", "authlua", GO=[b"A", b"C"]))
    d.play_blocking(file, ParrotTarget("2.3", "dovecot", GO=[b"A", b"D"]))
    d.play_blocking(file, ParrotTarget("2.4", "authlua", GO=[b"B"]))


def test_a_dialogue_may_be_not_for_all(written):
    """A skipped one says why; the others are played."""
    file = written("[2.3 dovecot] @skip it panics")
    with pytest.raises(d.NotPlayed, match="it panics"):
        d.play_blocking(file, ParrotTarget("2.3", "dovecot"))
    d.play_blocking(file, ParrotTarget("2.4", "dovecot"))


def test_lines_in_a_row_go_out_as_one_and_are_spelled_out(written):
    """Pipelining, base64, raw bytes and long lines."""
    target = ParrotTarget()
    d.play_blocking(written(r"C: A\tP(u,p)\x01", "C: B(x)", r"C: FILL(9)\r"), target)
    assert target.conversations[0].heard[1] == b"A\tAHUAcA==\x01\neA==\n" + b"x" * 7 + b"\r\n"


@pytest.mark.parametrize(
    "line",
    ["X: what", "S what", "@opne login", "@open nowhere", "@open login minor=x", "[2.5] C: x", "C: tail\t", "@skip"],
)
def test_a_line_that_means_nothing_is_refused(line, written):
    """A typing mistake must not make a dialogue easier."""
    with pytest.raises(ValueError, match=r"some\.txt:4"):
        written(line)
