"""Encryption for ``encrypt`` and ``decrypt``, by the library ``cryptography``, which is asked for only here."""

import re
from typing import Any

from authlua.variables.template import ExpansionError, QuotingError

_MISSING = "needs the Python package cryptography, which is not installed"


class Cipher:
    """One of OpenSSL's AES ciphers, by OpenSSL's name (``AES-256-CBC``); raises `ExpansionError` for others."""

    def __init__(self, name: str) -> None:
        found = re.fullmatch(r"aes-(128|192|256)-(cbc|ctr)", name.lower())
        if found is None:
            # Dovecot takes whatever its OpenSSL has; these are the ones with a use here.
            raise QuotingError(f"Invalid cipher {name}")
        self.key_length = int(found[1]) // 8
        self.iv_length = 16
        self._mode = found[2].upper()

    def encrypt(self, key: bytes, iv: bytes, data: bytes) -> bytes:
        """Encrypt, padded as PKCS#7 where the mode needs it."""
        worker = self._cipher(key, iv).encryptor()
        if self._mode == "CBC":
            missing = 16 - len(data) % 16
            data += bytes([missing]) * missing
        return bytes(worker.update(data) + worker.finalize())

    def decrypt(self, key: bytes, iv: bytes, data: bytes) -> bytes:
        """Decrypt; raises `ExpansionError` when what comes out was not put in."""
        worker = self._cipher(key, iv).decryptor()
        if self._mode != "CBC":
            return bytes(worker.update(data) + worker.finalize())
        if not data or len(data) % 16:
            raise ExpansionError("data authentication failed")
        plain = bytes(worker.update(data) + worker.finalize())
        size = plain[-1]
        if not 1 <= size <= 16 or plain[-size:] != bytes([size]) * size:
            raise ExpansionError("data authentication failed")
        return plain[:-size]

    def check(self, key: bytes, iv: bytes) -> None:
        """Raise `ExpansionError` unless *key* and *iv* have this cipher's lengths."""
        if len(iv) != self.iv_length:
            raise ExpansionError(f"IV length invalid ({len(iv)} != {self.iv_length})")
        if len(key) != self.key_length:
            raise ExpansionError(f"Key length invalid ({len(key)} != {self.key_length})")

    def _cipher(self, key: bytes, iv: bytes) -> Any:
        try:
            from cryptography.hazmat.primitives import ciphers
            from cryptography.hazmat.primitives.ciphers import algorithms, modes
        except ImportError:
            raise ExpansionError(_MISSING) from None
        return ciphers.Cipher(algorithms.AES(key), getattr(modes, self._mode)(iv))
