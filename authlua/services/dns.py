"""Host names for scripts: what Dovecot's ``dns-client`` service looks up, asked of the system's resolver."""

import socket

import trio


async def submit(host: str, patience: float) -> tuple[str, int, list[str]]:
    """The problem and its ``EAI_…`` code, or the addresses of *host*, of both families, in the resolver's order.

    Args:
        patience: seconds; 0: as long as the resolver takes.
    """
    with trio.move_on_after(patience or float("inf")):
        try:
            found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            return error.strerror or "Unknown error", error.errno or socket.EAI_FAIL, []
        except (OSError, UnicodeError) as error:
            return str(error), socket.EAI_FAIL, []
        addresses = [str(address[0]).partition("%")[0] for _, _, _, _, address in found]
        return "", 0, list(dict.fromkeys(addresses))
    return f"Lookup timed out in {patience:.3f} secs", socket.EAI_FAIL, []
