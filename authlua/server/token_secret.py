"""The secret that signs auth tokens, in Dovecot's own file."""

import os
import secrets
from typing import TYPE_CHECKING

from authlua.secret import Secret

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

TOKEN_SECRET_FILE = "auth-token-secret.dat"
TOKEN_SECRET_SIZE = 32


def load_token_secret(base_dir: os.PathLike[str], log: "FilteringBoundLogger") -> Secret | None:
    """The secret that signs auth tokens, kept in a file of *base_dir* over restarts; `None` if that cannot be."""
    path = os.path.join(base_dir, TOKEN_SECRET_FILE)
    try:
        os.makedirs(base_dir, mode=0o755, exist_ok=True)
        try:
            with open(path, "rb") as file:
                data = file.read()
            if len(data) == TOKEN_SECRET_SIZE:
                return Secret(data)
        except FileNotFoundError:
            pass
        data = secrets.token_bytes(TOKEN_SECRET_SIZE)
        temporary = f"{path}.{os.getpid()}"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        os.rename(temporary, path)
    except OSError as error:
        log.warning("no_auth_tokens", reason=f"{path}: {error.strerror}")
        return None
    return Secret(data)
