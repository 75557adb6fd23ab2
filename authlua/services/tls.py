"""Whom a client trusts: the one place where TLS towards other servers is set up."""

import ssl


def trusting(ca_file: str = "", ca_dir: str = "", *, anybody: bool = False) -> ssl.SSLContext:
    """A fresh context for a client, which checks the server's certificate and name.

    Args:
        ca_file, ca_dir: who vouches for servers, in PEM; both empty: whom this machine trusts.
        anybody: check nothing.

    Raises:
        OSError: the authorities cannot be read; `ssl.SSLError` is one.
    """
    if not anybody:
        return ssl.create_default_context(cafile=ca_file or None, capath=ca_dir or None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
