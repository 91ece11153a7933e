"""The sockets control listens on."""

from __future__ import annotations

import errno
import socket
from typing import Any

from bridge.model.settings import SettingsError
from services.control.settings import ControlSettings

NO_SUCH_ADDRESS = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def listening(control: ControlSettings) -> list[socket.socket]:
    """One for each address of the host (`localhost` has two). Raises SettingsError: an address that is not ours, or a port that is taken,
    is a wrong setting."""
    made, failed = list[socket.socket](), None
    try:
        for found in socket.getaddrinfo(control.host, control.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            try:
                made.append(_bound(found[0], found[2], found[4]))
            except OSError as exc:
                if exc.errno not in NO_SUCH_ADDRESS:
                    raise
                failed = exc  # a machine without IPv6 that has a name for it
        if failed is not None and not made:
            raise failed
    except OSError as exc:
        variable = "CONTROL_PORT" if exc.errno in (errno.EADDRINUSE, errno.EACCES) else "CONTROL_HOST"
        text = f"{control.host}:{control.port} cannot be listened on ({exc.strerror})"
        raise SettingsError([f"{variable}: {text}; give an address of this machine and a port that is free"]) from exc
    return made


def _bound(family: int, protocol: int, address: Any) -> socket.socket:
    """Not create_server: of a socket that does not name its protocol asyncio leaves Nagle's delay on, 40 ms."""
    made = socket.socket(family, socket.SOCK_STREAM, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind(address)
    return made
