"""Stands for a Python that pytest-xdist has started: passes its files on to a fork of the tests, and ends with that.

python pytest_fork.py ADDRESS ARGUMENTS_OF_PYTHON     ADDRESS: of :mod:`support.processes.pytest_fork_server`, hexadecimal
"""

import socket
import sys

if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(bytes.fromhex(sys.argv[1]))
        socket.send_fds(connection, ["\0".join(sys.argv[2:]).encode()], [0, 1, 2])
        connection.recv(1)  # nothing comes until the other end closes
