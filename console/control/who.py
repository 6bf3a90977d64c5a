"""Who makes a change, as the audit names them."""

import getpass
import os
import socket


def user_and_host() -> str:
    """Returns USER@HOST of this process; a user without a name, as in containers, is its number."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # KeyError before Python 3.13
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
