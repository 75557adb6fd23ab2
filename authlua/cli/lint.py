"""What can be said of a Lua script without running it: functions and results with misspelt names, globals that nobody
sets, passwords that are always right.

Not a parser of Lua: the script compiles, so its text can be read word by word with a list of open scopes.
Where that cannot tell, nothing is said. A script that reaches globals by other ways than their names
(``_G``, ``_ENV``, ``setfenv``, ``module``) is not judged at all.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from authlua.results import PassdbResult, UserdbResult

HOOKS = (
    "auth_passdb_lookup",
    "auth_password_verify",
    "auth_passdb_get_cache_key",
    "auth_passdb_set_credentials",
    "auth_userdb_lookup",
    "auth_userdb_iterate",
    "auth_userdb_get_cache_key",
    "script_init",
    "script_deinit",
    "script_load",
    "mail_user_created",
    "mail_user_deinit_pre",
    "mail_user_deinit",
    "dovecot_lua_notify_begin_txn",
    "dovecot_lua_notify_end_txn",
    "dovecot_lua_notify_event_message_new",
    *(
        f"dovecot_lua_notify_event_{event}"  # Dovecot's own driver calls these; a script may serve both
        for event in (
            "message_append",
            "message_expunge",
            "message_read",
            "message_trash",
            "flags_set",
            "flags_clear",
            "mailbox_create",
            "mailbox_delete",
            "mailbox_rename",
            "mailbox_subscribe",
            "mailbox_unsubscribe",
        )
    ),
)
"""The functions that are called by their names."""

RESULTS = frozenset(
    [f"PASSDB_RESULT_{result.name}" for result in PassdbResult]
    + [f"USERDB_RESULT_{result.name}" for result in UserdbResult]
)
"""What ``dovecot.auth`` has."""

_EVERYWHERE = """
_VERSION assert collectgarbage coroutine debug dofile dovecot error getmetatable io ipairs load loadfile math next os
package pairs pcall print rawequal rawget rawset require select setmetatable string table tonumber tostring type xpcall
"""
_SOME = {
    "5.1": "gcinfo loadstring newproxy unpack",
    "5.2": "bit32 loadstring rawlen unpack",
    "5.3": "bit32 rawlen utf8",
    "5.4": "rawlen utf8 warn",
    "5.5": "rawlen utf8 warn",
    "luajit": "bit gcinfo jit loadstring newproxy unpack",
}

_TOKEN = re.compile(
    r"""
    (?P<space> \s+ | --\[(?P<c>=*)\[.*?\](?P=c)\] | --[^\n]* )
  | (?P<name> [A-Za-z_]\w* )
  | (?P<value> \[(?P<s>=*)\[.*?\](?P=s)\] | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*'
             | \.?\d(?:[eEpP][+-]|[\w.])* | \.\.\. )
  | (?P<sign> :: | \.\. | [=~<>]= | << | >> | // | . )
    """,
    re.DOTALL | re.VERBOSE,
)
_KEYWORDS = frozenset(
    [
        "and",
        "break",
        "do",
        "else",
        "elseif",
        "end",
        "false",
        "for",
        "function",
        "if",
        "in",
        "local",
        "nil",
        "not",
        "or",
        "repeat",
        "return",
        "then",
        "true",
        "until",
        "while",
    ]
)
# words after which a name begins a statement, if it is not in brackets
_BEFORE_STATEMENT = frozenset(["", ";", "do", "then", "else", "repeat", "end", "break", ")", "]", "}", "::"])
_BEFORE_STATEMENT_TOO = frozenset(["nil", "true", "false", "..."])
_CLOSES = {"}": "{", ")": "(", "]": "["}


class Token(NamedTuple):
    """A word of the script; *kind* is ``name``, ``value`` or ``sign``, keywords are signs."""

    kind: str
    text: str
    line: int


class Finding(NamedTuple):
    """Something that looks wrong at a line of the script."""

    line: int
    text: str


def lint(text: str, version: str) -> list[Finding]:
    """What looks wrong in the script *text* for Lua *version*, by line; empty when all is well or cannot be told."""
    scan = _Scan(list(_tokens(text)))
    scan.run()
    defined = dict(scan.assigned)
    findings = []
    for name, line in defined.items():
        hook = _close(name, HOOKS)
        if hook is not None and hook not in defined and re.match(r"auth|script|mail_user|dovecot_lua", name):
            findings.append(Finding(line, f"{name} is never called, did you mean {hook}?"))
    known = {*_EVERYWHERE.split(), *_SOME[version].split(), *defined}
    read = dict(scan.read)
    if not read.keys() & {"_G", "_ENV", "setfenv", "module"}:
        for name, line in reversed(scan.read):
            read[name] = line  # the first place counts
        for name, line in read.items():
            if name not in known:
                close = _close(name, known)
                hint = f", did you mean {close}?" if close else ""
                findings.append(Finding(line, f"global {name} is never set{hint}"))
    return sorted(findings + list(_results(scan.tokens)) + list(_verdicts(scan.tokens)))


def _results(tokens: Sequence[Token]) -> Iterator[Finding]:
    """Members that look like a result but are none: they are nil, which is a temporary failure."""
    words = ["", "", "", "", *(token.text for token in tokens), ""]
    for at, token in enumerate(tokens, 4):
        if not re.match(r"(?:PASS|USER)DB_RESULT_", token.text) or words[at - 1] != "." or words[at + 1] == "=":
            continue
        if token.text not in RESULTS:
            close = _close(token.text, set(RESULTS))
            yield Finding(token.line, f"there is no {token.text}" + (f", did you mean {close}?" if close else ""))
        elif words[at - 4 : at - 2] == ["dovecot", "."] and words[at - 2] != "auth":
            where = f"dovecot.{words[at - 2]}"
            yield Finding(token.line, f"there is no {where}.{token.text}, did you mean dovecot.auth.{token.text}?")


def _verdicts(tokens: Sequence[Token]) -> Iterator[Finding]:
    """Where what ``password_verify`` returns is taken for true or false: to Lua, 0 is as true as 1."""
    words = ["", "", "", *(token.text for token in tokens), "", ""]
    for at, token in enumerate(tokens, 3):
        if token.text != "password_verify" or words[at - 1] not in (".", ":") or words[at + 1] != "(":
            continue
        depth, end = 1, at + 2
        while depth and end < len(words) - 1:
            depth += {"(": 1, ")": -1}.get(words[end], 0)
            end += 1
        before = at - 3
        while words[before] == "(" and words[end] == ")" and not _is_called(words[before - 1]):
            before, end = before - 1, end + 1
        if words[end] in ("then", "do", "and") or words[before] == "not":
            yield Finding(
                token.line, "password_verify returns a number, which is true whatever it is: a right password has 1"
            )


def _is_called(before: str) -> bool:
    """Whether a bracket behind this word begins the arguments of a call."""
    return before in (")", "]") or (before[-1:].isidentifier() and before not in _KEYWORDS)


def defines(text: str, names: Sequence[str]) -> bool:
    """Whether the script *text* sets one of the globals *names*, or may have another file do it."""
    scan = _Scan(list(_tokens(text)))
    scan.run()
    others = {"require", "dofile", "loadfile", "load", "loadstring", "_G", "_ENV", "rawset", "setfenv", "module"}
    return not {name for name, _ in scan.assigned}.isdisjoint(names) or not others.isdisjoint(dict(scan.read))


def _close(name: str, known: Sequence[str] | set[str]) -> str | None:
    import difflib

    if name in known:
        return None
    return next(iter(difflib.get_close_matches(name, sorted(known), 1, 0.8)), None)


def _tokens(text: str) -> Iterator[Token]:
    line = 1
    position = 0
    if text.startswith("#"):
        position = text.find("\n") + 1 or len(text)  # as for a script that is a program
        line = 2
    for match in _TOKEN.finditer(text, position):
        kind = match.lastgroup or ""
        word = match[0]
        if match["name"] is not None:
            kind = "sign" if word in _KEYWORDS else "name"
        elif match["value"] is not None:
            kind = "value"
        elif match["sign"] is not None:
            kind = "sign"
        else:
            kind = ""
        if kind:
            yield Token(kind, word, line)
        line += word.count("\n")


class _Scan:
    """Reads the tokens once and notes which globals are set and which are read."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.assigned: list[tuple[str, int]] = []
        self.read: list[tuple[str, int]] = []
        self._open: list[str] = ["block"]
        self._scopes: list[set[str]] = [set()]
        self._loops: list[tuple[int, list[str]]] = []
        self._at = 0

    def _text(self, offset: int) -> str:
        at = self._at + offset
        return self.tokens[at].text if 0 <= at < len(self.tokens) else ""

    def _take(self) -> Token:
        self._at += 1
        return self.tokens[self._at - 1] if self._at <= len(self.tokens) else Token("sign", "", 0)

    def _is_name(self, offset: int = 0) -> bool:
        at = self._at + offset
        return 0 <= at < len(self.tokens) and self.tokens[at].kind == "name"

    def _enter(self, names: Sequence[str] = ()) -> None:
        self._open.append("block")
        self._scopes.append(set(names))

    def _leave(self) -> set[str]:
        while len(self._open) > 1 and self._open.pop() != "block":
            pass
        return self._scopes.pop() if len(self._scopes) > 1 else set()

    def run(self) -> None:
        """Read all."""
        while self._at < len(self.tokens):
            token = self._take()
            if token.kind == "name":
                self._name(token)
            elif token.kind == "sign":
                self._sign(token.text)

    def _sign(self, text: str) -> None:
        match text:
            case "function":
                self._function()
            case "local":
                self._local()
            case "for":
                self._loops.append((len(self._scopes), self._names()))
            case "do":
                loop = self._loops.pop()[1] if self._loops and self._loops[-1][0] == len(self._scopes) else []
                self._enter(loop)
            case "then" | "repeat":
                self._enter()
            case "else":
                self._leave()
                self._enter()
            case "elseif" | "end":
                self._leave()
            case "until":  # the condition still sees the locals of the loop; let all that follows see them
                self._scopes[-1] |= self._leave()
            case "{" | "(" | "[":
                self._open.append(text)
            case "}" | ")" | "]" if self._open[-1] == _CLOSES[text]:
                self._open.pop()

    def _names(self) -> list[str]:
        """A list of names with commas between them, and perhaps an attribute after each."""
        names = []
        while self._is_name():
            names.append(self._take().text)
            if self._text(0) == "<":
                self._at += 3
            if self._text(0) != ",":
                break
            self._at += 1
        return names

    def _local(self) -> None:
        if self._text(0) == "function":
            self._at += 1
            self._scopes[-1].add(self._take().text)
            self._parameters([])
        else:
            self._scopes[-1].update(self._names())

    def _function(self) -> None:
        own = []
        if self._is_name():
            name = self._take()
            if self._text(0) in (".", ":"):
                self._note(self.read, name)
                while self._text(0) in (".", ":"):
                    own = ["self"]
                    self._at += 2
            else:
                self._note(self.assigned, name)
        self._parameters(own)

    def _parameters(self, own: list[str]) -> None:
        self._at += 1  # the bracket
        names = self._names()
        while self._at < len(self.tokens) and self._take().text != ")":
            pass
        self._enter(own + names)

    def _name(self, token: Token) -> None:
        before, after = self._text(-2), self._text(0)
        if before in (".", ":", "::", "goto") or (token.text == "goto" and self._is_name()):
            return
        in_block = self._open[-1] == "block"
        if after == "=":
            if in_block:
                self._note(self.assigned, token)
            elif self._open[-1] != "{" or before not in ("{", ",", ";"):
                self._note(self.read, token)
        elif in_block and after == "," and (self._begins_statement() or self._in_targets()):
            self._note(self.assigned, token)
        else:
            self._note(self.read, token)

    def _begins_statement(self) -> bool:
        at = self._at - 2
        if at < 0:
            return True
        before = self.tokens[at]
        return before.kind != "sign" or before.text in _BEFORE_STATEMENT or before.text in _BEFORE_STATEMENT_TOO

    def _in_targets(self) -> bool:
        """Whether this name is in the middle of ``a, b, c =``."""
        offset = 0
        while self._text(offset) == "," and self._is_name(offset + 1):
            offset += 2
        return self._text(offset) == "="

    def _note(self, where: list[tuple[str, int]], token: Token) -> None:
        if not any(token.text in scope for scope in self._scopes):
            where.append((token.text, token.line))
