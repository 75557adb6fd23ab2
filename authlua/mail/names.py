"""Mailbox names: what users see, what Maildir++ has on disk, and what neither may be."""

import base64
import re

from authlua.mail.storage import StorageError


def visible(name: str, separator: str) -> str:
    """*name* with INBOX in upper case where it is the first part, as ``mailbox_alloc`` of Dovecot does."""
    first, rest = name[:5], name[5:]
    if first.upper() == "INBOX" and (not rest or rest.startswith(separator)):
        return "INBOX" + rest
    return name


def check(vname: str, separator: str, layout: str) -> None:
    """Refuse what no mailbox can be called; *layout* separates the parts on disk.

    Texts and order as in ``core:2.3.21.1:src/lib-storage/mail-storage.c:mailbox_verify_name``.
    """
    if separator != layout and layout in vname:
        raise StorageError(f"Character not allowed in mailbox name: '{layout}'")
    if not vname:
        raise StorageError("Invalid mailbox name: Name is empty")
    if vname.startswith(separator):
        raise StorageError("Invalid mailbox name: Begins with hierarchy separator")
    if vname.startswith("~"):
        raise StorageError("Invalid mailbox name: Begins with '~'")
    if separator * 2 in vname:
        raise StorageError("Invalid mailbox name: Has adjacent hierarchy separators")
    if vname.endswith(separator):
        raise StorageError("Invalid mailbox name: Ends with hierarchy separator")
    if separator != "/" and "/" in vname:
        raise StorageError("Character not allowed in mailbox name: '/'")
    if any(len(part) > 255 for part in to_utf7(vname).split(separator)):
        raise StorageError("Mailbox name is too long")


def to_utf7(text: str) -> str:
    """*text* in modified UTF-7 (RFC 3501, 5.1.3)."""
    return re.sub(r"[^\x20-\x7e]+|&", _encoded, text)


def _encoded(match: re.Match[str]) -> str:
    if match[0] == "&":
        return "&-"
    digits = base64.b64encode(match[0].encode("utf-16-be"), altchars=b"+,")
    return f"&{digits.rstrip(b'=').decode()}-"


def from_utf7(name: str) -> str:
    """Undo `to_utf7`; what is not modified UTF-7 is a `ValueError`."""

    def decoded(match: re.Match[str]) -> str:
        digits = match[1]
        if not digits:
            return "&"
        return base64.b64decode(digits + "=" * (-len(digits) % 4), altchars=b"+,").decode("utf-16-be")

    text = re.sub(r"&([A-Za-z0-9+,]*)-", decoded, name)
    if to_utf7(text) != name:
        raise ValueError(f"not modified UTF-7: {name!r}")
    return text
