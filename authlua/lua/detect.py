"""Which Dovecot a script was written for, read off its text.

Only what exists on one side counts: a name, a member, a template's grammar, a result's shape. A script that shows marks
of both sides asks for itself what it runs on, and one without marks runs on either; for both the answer is `None`.
"""

import re

from authlua.dialect import Dialect
from authlua.request import VARIABLES_2_3, VARIABLES_2_4

_COMMENT = re.compile(rb"--\[(=*)\[.*?\]\1\]|--[^\n]*", re.DOTALL)
_REQUEST = re.compile(rb"auth_(?:passdb_lookup|password_verify|userdb_lookup)\s*(?:=\s*function\s*)?\(\s*(\w+)")


def _any(*patterns: str) -> re.Pattern[bytes]:
    return re.compile("|".join(patterns).encode())


_TEMPLATE = r"\bvar_expand\s*\(\s*[\"'][^\"'\n]*"
_MARKS = {
    Dialect.V2_3: _any(
        r":response_from_template\b",
        _TEMPLATE + r"%(?:[-0-9.]*[LUEXRNHMDT]*[a-z]\b|\{if;)",
        r"\b\w+_msecs\s*=",
        r"\bno_auto_(?:redirect|retry)\s*=",
        r"\bmax_auto_retry_delay_secs\s*=",
        r"(?:RESULT_(?:OK|NEXT)|return\s+1)\s*,\s*[\"']\w+=",
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
    return shown[0] if len(shown) == 1 else None
