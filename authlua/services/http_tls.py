"""TLS of the HTTP client: what a script asked for, as contexts of Python's; texts as seen on Dovecot 2.4.1."""

import re
import ssl
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from authlua.services.tls import trusting


class TlsOptions(NamedTuple):
    """The names are those of Dovecot 2.4; what is empty was not said."""

    ssl_client_ca_file: str = ""
    ssl_client_ca_dir: str = ""
    ssl_client_cert_file: str = ""
    ssl_client_key_file: str = ""
    ssl_client_key_password: str = ""
    ssl_client_require_valid_cert: bool = True
    ssl_cipher_list: str = ""
    ssl_cipher_suites: str = ""
    ssl_curve_list: str = ""
    ssl_min_protocol: str = ""
    ssl_options: str = ""

    def __repr__(self) -> str:
        return "<tls options>"  # the key's password is among them


class BadOptions(Exception):
    """Nothing can be made of what a script asked for; its text says what."""


_PROBLEM = "Couldn't initialize SSL client context"

_VERSIONS = {
    "any": ssl.TLSVersion.TLSv1,
    "tlsv1": ssl.TLSVersion.TLSv1,
    "tlsv1.1": ssl.TLSVersion.TLSv1_1,
    "tlsv1.2": ssl.TLSVersion.TLSv1_2,
    "tlsv1.3": ssl.TLSVersion.TLSv1_3,
    "latest": ssl.TLSVersion.TLSv1,
}
"""What ``ssl_min_protocol`` may be, in any case; LATEST is no minimum at all (seen on 2.4.1)."""

_CURVES = {"P-256": "prime256v1", "P-384": "secp384r1", "P-521": "secp521r1"}
"""NIST's names, which OpenSSL knows in lists alone."""

_SUITES = frozenset(
    {
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_CCM_SHA256",
        "TLS_AES_128_CCM_8_SHA256",
    }
)
"""All there are of TLS 1.3 (RFC 8446 appendix B.4)."""


@lru_cache(32)
def tls_contexts(options: TlsOptions) -> Sequence[ssl.SSLContext]:
    """What *options* ask for; one context for each curve of the list, as Python takes only one at a time.

    A curve that this Python cannot offer, as 3.11.2 X25519, is left out. Raises `BadOptions`, also if none is left.
    """
    said = options.ssl_curve_list
    if not said:
        return [_context(options)]
    contexts = []
    unfit: ssl.SSLError | None = None
    for curve in said.split(":"):
        context = _context(options)
        try:
            context.set_ecdh_curve(_CURVES.get(curve, curve))
        except ValueError as error:
            raise _refused("curve list", said, "ssl_curve_list", error) from error
        except ssl.SSLError as error:
            unfit = error
        else:
            contexts.append(context)
    if unfit is not None and not contexts:
        raise _refused("curve list", said, "ssl_curve_list", unfit) from unfit
    return contexts


def suite_allowed(options: TlsOptions, negotiated: tuple[str, str, int] | None) -> bool:
    """Whether what was *negotiated* (see `ssl.SSLSocket.cipher`) is among the suites asked for.

    Python offers all suites of TLS 1.3 that it knows, so an unwanted one is refused once the server has chosen it.
    """
    if not options.ssl_cipher_suites or negotiated is None or negotiated[1] != "TLSv1.3":
        return True
    return negotiated[0] in options.ssl_cipher_suites.split(":")


def _context(options: TlsOptions) -> ssl.SSLContext:
    flags = [flag.lower() for flag in re.split("[, ]+", options.ssl_options) if flag]
    for flag in flags:
        if flag not in ("compression", "no_ticket"):
            raise BadOptions(f"ssl settings: Invalid settings: ssl_options: unknown flag: '{flag}'")
    for name in ("ssl_client_ca_file", "ssl_client_cert_file", "ssl_client_key_file"):
        _look_at(name, getattr(options, name))
    try:
        context = trusting(
            options.ssl_client_ca_file,
            options.ssl_client_ca_dir,
            anybody=not options.ssl_client_require_valid_cert,
        )
    except OSError as error:
        raise BadOptions(f"{_PROBLEM}: Couldn't parse ssl_client_ca_file: {error}") from error
    if options.ssl_client_cert_file:
        key = options.ssl_client_key_file or None
        try:
            # without a function for it, OpenSSL asks for a password on the terminal
            context.load_cert_chain(options.ssl_client_cert_file, key, lambda: options.ssl_client_key_password)
        except (OSError, ValueError) as error:  # the latter when the password is too long
            raise BadOptions(
                f"{_PROBLEM}: Can't load SSL certificate (ssl_client_cert_file setting): {error}"
            ) from error
    if options.ssl_cipher_list:
        try:
            context.set_ciphers(options.ssl_cipher_list)
        except ssl.SSLError as error:
            raise _refused("cipher list", options.ssl_cipher_list, "ssl_cipher_list", error) from error
    if options.ssl_cipher_suites and not _SUITES.issuperset(options.ssl_cipher_suites.split(":")):
        raise _refused("ciphersuites", options.ssl_cipher_suites, "ssl_cipher_suites", "no cipher match")
    if options.ssl_min_protocol:
        version = _VERSIONS.get(options.ssl_min_protocol.lower())
        if version is None:
            raise _refused("minimum protocol", options.ssl_min_protocol, "ssl_min_protocol", "Unknown value")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it is the script that wants an old one
            context.minimum_version = version
    if "compression" in flags:
        context.options &= ~ssl.OP_NO_COMPRESSION
    if "no_ticket" in flags:
        context.options |= ssl.OP_NO_TICKET
    return context


def _look_at(name: str, path: str) -> None:
    if not path:
        return
    try:
        open(path, "rb").close()
    except OSError as error:
        raise BadOptions(
            "ssl settings: Failed to parse configuration: Failed to override configuration from hardcoded: "
            f"Invalid {name}={path}: open({path}) failed: {error.strerror}"
        ) from error


def _refused(what: str, said: str, name: str, why: object) -> BadOptions:
    return BadOptions(f"{_PROBLEM}: Can't set {what} to '{said}' ({name} setting): {why}")
