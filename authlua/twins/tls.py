"""TLS for scripts: what LuaSec's contexts and connections do, on Python's ``ssl``."""

import hashlib
import os
import ssl
import warnings
from collections.abc import Callable
from typing import Any

from authlua.twins.operations import READ, WRITE, Steps, Waits, begin
from authlua.twins.resources import Leases
from authlua.twins.sockets import CLOSED, TIMEOUT, Answer, Tcp, tls_error_text, wait

_VERSIONS = {
    b"tlsv1": ssl.TLSVersion.TLSv1,
    b"tlsv1_1": ssl.TLSVersion.TLSv1_1,
    b"tlsv1_2": ssl.TLSVersion.TLSv1_2,
    b"tlsv1_3": ssl.TLSVersion.TLSv1_3,
}

_OPTIONS = {
    b"all": ssl.OP_ALL,
    b"cipher_server_preference": ssl.OP_CIPHER_SERVER_PREFERENCE,
    b"no_compression": ssl.OP_NO_COMPRESSION,
    b"no_renegotiation": ssl.OP_NO_RENEGOTIATION,
    b"no_ticket": ssl.OP_NO_TICKET,
    b"single_dh_use": ssl.OP_SINGLE_DH_USE,
    b"single_ecdh_use": ssl.OP_SINGLE_ECDH_USE,
}

_WITHOUT = {
    b"no_sslv2": None,
    b"no_sslv3": None,
    b"no_tlsv1": ssl.TLSVersion.TLSv1_1,
    b"no_tlsv1_1": ssl.TLSVersion.TLSv1_2,
    b"no_tlsv1_2": ssl.TLSVersion.TLSv1_3,
}
"""Options that rule out a version, and the lowest that is left then; the first two are ruled out in any case."""

_VERIFY = (b"none", b"peer", b"client_once", b"fail_if_no_peer_cert")


class _Refused(Exception):
    """A parameter that is no good; its text is LuaSec's."""


def _context(protocol: bytes, mode: bytes, *pairs: bytes) -> ssl.SSLContext:
    """A context as *pairs* of parameters and values say; a parameter with several values stands there several times."""
    if protocol not in (b"any", b"sslv23", *_VERSIONS):
        raise _Refused(f"invalid protocol ({protocol.decode('latin-1')})")
    given: dict[bytes, list[bytes]] = {}
    for name, value in zip(pairs[::2], pairs[1::2], strict=True):
        given.setdefault(name, []).append(value)
    one = {name: os.fsdecode(values[0]) for name, values in given.items()}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if mode == b"server" else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # some releases of Python take a connection that is cut off for one that ended, unless they are told not to
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    if protocol in _VERSIONS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it is the script that wants an old one
            context.minimum_version = context.maximum_version = _VERSIONS[protocol]
    _load_key(context, one)
    if b"cafile" in one or b"capath" in one:
        try:
            context.load_verify_locations(one.get(b"cafile"), one.get(b"capath"))
        except OSError as error:
            raise _Refused(f"error loading CA locations ({_why(error)})") from error
    if b"ciphers" in one:
        try:
            context.set_ciphers(one[b"ciphers"])
        except ssl.SSLError as error:
            raise _Refused("error setting cipher list (no cipher match)") from error
    for word in given.get(b"verify", ()):
        if word not in _VERIFY:
            raise _Refused(f"invalid verify option ({word.decode('latin-1')})")
        if word == b"peer":
            context.verify_mode = ssl.CERT_REQUIRED
    for word in given.get(b"options", ()):
        if word in _WITHOUT:
            lowest = _WITHOUT[word]
            if lowest is not None and lowest > context.minimum_version:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # as above
                    context.minimum_version = lowest
            continue
        if word == b"no_tlsv1_3":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            continue
        if word not in _OPTIONS:
            raise _Refused(f"invalid option ({word.decode('latin-1')})")
        context.options |= _OPTIONS[word]
    if b"alpn" in given:
        context.set_alpn_protocols([value.decode("latin-1") for value in given[b"alpn"]])
    return context


def _load_key(context: ssl.SSLContext, one: dict[bytes, str]) -> None:
    certificate, key = one.get(b"certificate"), one.get(b"key")
    for what, path in (("private key", key), ("certificate", certificate)):
        try:
            if path is not None:
                open(path).close()
        except OSError as error:
            raise _Refused(f"error loading {what} ({_why(error)})") from error
    if certificate is not None and key is not None:
        try:
            # without a function for it, OpenSSL asks for a password on the terminal
            context.load_cert_chain(certificate, key, lambda: one.get(b"password", ""))
        except ValueError as error:  # a password that is too long
            raise _Refused(f"error loading private key ({error})") from error
        except OSError as error:
            raise _Refused(f"error loading certificate ({_why(error)})") from error


def _why(error: OSError) -> str:
    # OpenSSL 3 has no words for what the system says, and LuaSec shows that
    return tls_error_text(error).decode() if isinstance(error, ssl.SSLError) else "(null)"


class Tls:
    """What the Lua side of TLS calls."""

    def __init__(self, waits: Waits, leases: Leases) -> None:
        self._waits = waits
        self._leases = leases

    def functions(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {
            "tls_context": context,
            "tls_wrap": wrap,
            "tls_handshake": self.handshake,
            "tls_about": about,
            "tls_certificate": certificate,
            "tls_digest": digest,
            "tls_pem": lambda der: ssl.DER_cert_to_PEM_cert(der).encode(),
        }

    def handshake(self, call: int | None, tcp: Tcp, name: bytes | None) -> Answer:
        """Begin TLS on a socket that was wrapped; *name* is told to the server."""
        return begin(self._handshake(call, tcp, name), self._waits)

    def _handshake(self, call: int | None, tcp: Tcp, name: bytes | None) -> Steps:
        if not (yield from self._leases.take(tcp, call)):
            return False, TIMEOUT
        deadline = tcp.deadline
        if tcp.sock is not None and tcp.tls is not None and not isinstance(tcp.sock, ssl.SSLSocket):
            try:
                tcp.sock = tcp.tls.wrap_socket(
                    tcp.sock,
                    do_handshake_on_connect=False,
                    suppress_ragged_eofs=False,  # nobody may cut an answer short unnoticed
                    server_hostname=name and name.decode("latin-1"),
                )
            except (OSError, ValueError) as error:
                return False, str(error).encode()
        while isinstance(tcp.sock, ssl.SSLSocket):
            try:
                tcp.sock.do_handshake()
                return (True,)
            except ssl.SSLWantReadError:
                events, word = READ, b"wantread"
            except ssl.SSLWantWriteError:
                events, word = WRITE, b"wantwrite"
            except OSError as error:
                return False, tcp.problem(error)
            if not (yield from wait(tcp.sock, events, deadline)):
                return False, tcp.late(word)
        return False, CLOSED


def context(protocol: bytes, mode: bytes, *pairs: bytes) -> Answer:
    """A context for *pairs* of parameters, or `None` and what is wrong with them."""
    try:
        return (_context(protocol, mode, *pairs),)
    except _Refused as refused:
        return None, str(refused).encode()


def wrap(tcp: Tcp, how: ssl.SSLContext) -> Tcp:
    """A connection that takes over *tcp*'s socket, to be encrypted as *how* says."""
    fresh = Tcp(0)
    fresh.sock, tcp.sock = tcp.sock, None
    fresh.buffer, tcp.buffer = tcp.buffer, fresh.buffer
    fresh.tls = how
    return fresh


def about(tcp: Tcp) -> Answer:
    """Protocol, cipher and bits of an encrypted connection, and the protocol above it that was agreed on."""
    if not isinstance(tcp.sock, ssl.SSLSocket):
        return (None,)
    cipher = tcp.sock.cipher()
    if cipher is None:
        return (None,)
    alpn = tcp.sock.selected_alpn_protocol()
    version = (tcp.sock.version() or "").encode()
    return version, cipher[0].encode(), float(cipher[2]), None if alpn is None else alpn.encode()


def certificate(tcp: Tcp) -> bytes | None:
    """The other side's certificate in DER."""
    return tcp.sock.getpeercert(binary_form=True) if isinstance(tcp.sock, ssl.SSLSocket) else None


def digest(der: bytes, name: bytes) -> bytes | None:
    """The fingerprint of a certificate in hex."""
    try:
        return hashlib.new(name.decode("latin-1"), der).hexdigest().encode()
    except ValueError:
        return None
