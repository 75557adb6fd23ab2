"""Why a connection failed, in the words of the system."""

import os
import socket
import ssl


def reason(error: BaseException) -> str:
    """What is behind *error*, which trio raised: of the addresses of a host it tells as one, of TLS in a cause."""
    cause = error
    while not (isinstance(cause, OSError) and cause.errno):
        deeper = cause.exceptions[-1] if isinstance(cause, BaseExceptionGroup) else cause.__cause__
        if deeper is None:
            return str(error) or "the connection broke"
        cause = deeper
    if isinstance(cause, ssl.SSLError | socket.gaierror):  # numbers of their own
        return cause.strerror or str(cause)
    return os.strerror(cause.errno)
