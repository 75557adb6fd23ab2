"""Text and bytes at the border to Lua, the only place where one becomes the other.

Lua strings are bytes. Text is UTF-8 in which undecodable bytes are surrogates, so both ways lose nothing.
What Dovecot handles as a C string ends at its first NUL (`text`, `c_string`).
"""


def lua_string(text: str) -> bytes:
    """*text* as a Lua string."""
    return text.encode("utf-8", "surrogateescape")


def text(data: bytes) -> str:
    """A Lua string as text, up to its first NUL."""
    if 0 in data:
        data = data[: data.index(0)]
    return data.decode("utf-8", "surrogateescape")


def whole_text(data: bytes) -> str:
    """A Lua string as text, NULs included."""
    return data.decode("utf-8", "surrogateescape")


def c_string(data: bytes) -> bytes:
    """*data* up to its first NUL."""
    return data[: data.index(0)] if 0 in data else data
