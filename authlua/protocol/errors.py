"""Whose doing it is when a conversation cannot go on.

::

    ProtocolError
    ├── RemoteProtocolError   the peer broke a rule: log it, close the connection, answer nothing
    └── LocalProtocolError    we tried to send what the conversation does not allow: a bug of ours
"""


class ProtocolError(Exception):
    """Raised by the codecs, and never anything else, whatever bytes arrive."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rule that the message names."""


class LocalProtocolError(ProtocolError):
    """Our own message does not fit the state of the conversation."""
