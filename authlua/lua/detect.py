"""Which Dovecot a script was written for, read off its text.

Only what exists on one side counts: a name, a member, a template's grammar, an option, a result's shape. A script that
shows marks of both sides asks for itself what it runs on, and one without marks runs on either; for both the answer is
`None`.
"""

import re

from authlua.dialect import Dialect
from authlua.request import VARIABLES_2_3, VARIABLES_2_4

_COMMENT = re.compile(rb"--\[(=*)\[.*?\]\1\]|--[^\n]*", re.DOTALL)
_REQUEST = re.compile(rb"auth_(?:passdb_lookup|password_verify|userdb_lookup)\s*(?:=\s*function\s*)?\(\s*(\w+)")


def _any(*patterns: str) -> re.Pattern[bytes]:
    return re.compile("|".join(patterns).encode())


_CLIENT = r"\bhttp\s*\.\s*client\s*\(?\s*\{[^{}]*\b"
_TEMPLATE = r"\bvar_expand\s*\(\s*[\"'][^\"'\n]*"
_MARKS = {
    Dialect.V2_3: _any(
        _TEMPLATE + r"%(?:[-0-9.]*[LUEXRNHMDT]*[a-z]\b|\{if;)",
        r"\b\w+_msecs\s*=",
        r"\bno_auto_(?:redirect|retry)\s*=",
        r"\bmax_auto_retry_delay_secs\s*=",
        _CLIENT + r"(?:timeout|max_attempts|max_redirects|debug)\s*=",
    ),
    Dialect.V2_4: _any(
        r"\bauth_(?:passdb|userdb)_get_cache_key\b",
        r"\bdovecot\s*\.\s*(?:gettimeofday|(?:nano|micro)seconds|net_ip_family|tab(?:un)?escape|split_tabescaped"
        r"|base64|var_expand|dict|doveadm_client)\b",
        r":(?:un)?set_forced_debug\b",
        r"\bscript_init\s*(?:=\s*function\s*)?\(\s*\w",
        r"%\{[^}\"']*\|",
        r"\brequest_(?:timeout|max_attempts|max_redirects|absolute_timeout)\s*=",
        r"\bauto_(?:redirect|retry)\s*=",
    ),
}
_UNTIL_2_4_0 = _any(
    r":response_from_template\b",
    r"(?:RESULT_OK|return\s+1)\s*,\s*[\"'](?:\w+=|[\"'])",
    r"RESULT_NEXT\s*,\s*[\"']\w+=",
    r"[\"']nopassword=",
)
"""What 2.4.1 took away: beside OK, a string is an error there, at each login."""
_SINCE_2_4_1 = _any(r"\bdovecot\s*\.\s*(?:base64|var_expand)\b", r":(?:un)?set_forced_debug\b")
_NOTHING_BESIDE = _any(r"RESULT_(?:OK|USER_UNKNOWN|PASSWORD_MISMATCH)(?:\s*,\s*nil\b)?\s*;?\s*(?:\belse|\bend\b|\Z)")
"""What 2.3 takes for a temporary failure; so it decides where nothing else does, as it is also found as a mistake."""
_ONLY = {
    Dialect.V2_3: VARIABLES_2_3.keys() - VARIABLES_2_4.keys(),
    Dialect.V2_4: (VARIABLES_2_4.keys() | {"id"}) - VARIABLES_2_3.keys(),
}


def detect(source: bytes) -> Dialect | None:
    """The dialect of a script, from its text; `None` when that does not tell."""
    source = _COMMENT.sub(b"", source)
    requests = {match[1] for match in _REQUEST.finditer(source)} | {b"req", b"request", b"auth_req"}
    receiver = b"|".join(sorted(map(re.escape, requests)))
    members = {match[1].decode() for match in re.finditer(rb"\b(?:" + receiver + rb")\s*\.\s*(\w+)", source)}
    shown = [dialect for dialect, marks in _MARKS.items() if marks.search(source) or members & _ONLY[dialect]]
    if len(shown) == 2:
        return None
    earlier = _UNTIL_2_4_0.search(source)
    if shown == [Dialect.V2_4] and earlier:
        return None if _SINCE_2_4_1.search(source) else Dialect.V2_4_0
    if shown:
        return shown[0]
    if earlier:
        return Dialect.V2_3
    return Dialect.V2_4 if _NOTHING_BESIDE.search(source) else None
