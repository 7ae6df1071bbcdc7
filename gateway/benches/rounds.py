"""Rounds of requests over HTTP: each sends one request over each connection before it reads the
answers, so that a service finds the same work in every run."""

import re
import socket
from contextlib import ExitStack

from scripts.benchmarks.servers import Failure

IDENTIFIERS = 1_000
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n.*?\r\n\r\n", re.IGNORECASE | re.DOTALL)


def send_rounds(service, count, rounds):
    """Sends rounds of requests over so many connections."""
    with ExitStack() as stack:
        address = ("127.0.0.1", service.port)
        connections = [
            stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(count)
        ]
        for number in range(rounds):
            for index, connection in enumerate(connections):
                connection.sendall(service.request((number * count + index) % IDENTIFIERS))
            for connection in connections:
                read_answer(service, connection)


def read_answer(service, connection):
    answer = b""
    while not is_whole(answer):
        received = connection.recv(65_536)
        if not received:
            raise Failure(f"{service.name} has closed a connection: {answer!r}")
        answer += received
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise Failure(f"{service.name}: {answer.decode(errors='replace')}")


def is_whole(answer):
    head = LENGTH.search(answer)
    return head is not None and len(answer) >= head.end() + int(head[1])
