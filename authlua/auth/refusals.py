"""What the log says of a refusal, and of the password with it, if ``verbose_passwords`` asks for that."""

import hashlib

from authlua.request import AuthRequest

LENGTH = 1024
"""Characters of a password, or of its hash, that are shown unless a length is given."""


def with_password(text: str, form: str, request: AuthRequest, *, following: str) -> str | None:
    """*text* with the password that was given, as *form* wants it; `None` when it is to be said without.

    Args:
        form: ``no``, ``plain`` or ``sha1``, the last two maybe with ``:length``.
        following: ``passdb`` or ``userdb`` when another one of that kind is going to be tried.
    """
    kind, _, length = form.partition(":")
    if kind == "no" or request.password is None:
        return None
    given = request.password.reveal()
    if kind == "sha1":
        shown = f"SHA1 of given password: {hashlib.sha1(given).hexdigest()[: int(length or LENGTH)]}"
    else:
        shown = f"given password: {given.decode('utf-8', 'surrogateescape')[: int(length or LENGTH)]}"
    return f"{text} ({shown}){following and f' - trying the next {following}'}"
