"""A v2 server that answers after known delays, in a process of its own, and tells at ``/truth`` how long each took.

It is told what to do as JSON: ``python truth_server.py '{"delays_ms": [20]}'``.

A thread for each connection, because a thread's sleep ends on time. What it is told:

delays_ms
    How long each request takes, in turn.
stall_at, stall_s
    From so many seconds after the first request on, nothing is answered for so long.
fail_every
    The n-th, 2n-th, ... request is answered with status 500.
die_after
    The process ends at this request.
chunked, in_pieces, close
    Answer in chunks; byte by byte, nearly; close the connection after each answer.
certificate
    Speak TLS with this file's certificate and key.
status
    Of an answer to a request, else 200.
key
    What ``Authorization`` must be; else 403.
"""

import itertools
import json
import os
import socket
import ssl
import sys
import threading
import time

BODY = b'{"model_name":"known","model_version":"1","outputs":[]}'
METADATA = {
    "name": "known",
    "versions": ["1"],
    "platform": "test",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [],
}
CONFIG = {"name": "known", "max_batch_size": 8, "input": [{"name": "x"}], "instance_group": [{"count": 1}]}


class Server:
    def __init__(self, told):
        self.told = told
        self.delays = itertools.cycle(told.get("delays_ms", [20]))
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()
        self.first = None
        self.took_ns = []

    def serve(self, connection):
        if "certificate" in self.told:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.told["certificate"])
            connection = context.wrap_socket(connection, server_side=True)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = connection.makefile("rb")
        while line := stream.readline():
            _, path, _ = line.decode().split()
            headers = {}
            while (field := stream.readline()) != b"\r\n":
                name, _, value = field.decode().partition(":")
                headers[name.lower()] = value.strip()
            stream.read(int(headers.get("content-length", 0)))
            if "key" in self.told and headers.get("authorization") != self.told["key"]:
                self.answer(connection, 403, b'{"error":"no key"}')
            elif path.endswith(("/infer", "/score")):
                self.infer(connection)
            elif path.endswith("/config"):
                self.answer(connection, 200, json.dumps(CONFIG).encode())
            elif path == "/truth":
                self.answer(connection, 200, json.dumps(self.took_ns).encode())
            elif path == "/v2/models/known":
                self.answer(connection, 200, json.dumps(METADATA).encode())
            else:
                self.answer(connection, 404, b'{"error":"not here"}')
            if self.told.get("close"):
                connection.shutdown(socket.SHUT_RDWR)
                return

    def infer(self, connection):
        arrived = time.monotonic()
        with self.lock:
            number, delay = next(self.numbers), next(self.delays) / 1000
            self.first = self.first or arrived
        if number == self.told.get("die_after"):
            os._exit(1)
        until = arrived + delay
        if "stall_at" in self.told:
            begin = self.first + self.told["stall_at"]
            if begin <= arrived < begin + self.told["stall_s"]:
                until = begin + self.told["stall_s"] + delay
        time.sleep(max(0, until - time.monotonic()))
        self.took_ns.append(round((time.monotonic() - arrived) * 1e9))
        if number % self.told.get("fail_every", number + 1) == 0:
            self.answer(connection, 500, b'{"error":"the ink has run out"}')
        else:
            self.answer(connection, self.told.get("status", 200), BODY)

    def answer(self, connection, status, body):
        head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\n"
        if self.told.get("close"):
            head += "Connection: close\r\n"
        if self.told.get("chunked"):
            half = len(body) // 2
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:], b""))
            connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        elif self.told.get("in_pieces"):
            whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            for i in range(0, len(whole), 40):
                connection.sendall(whole[i : i + 40])
                time.sleep(0.002)
        else:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def main():
    server = Server(json.loads(sys.argv[1]))
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=server.serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
