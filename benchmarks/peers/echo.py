"""The floor: a bare mutual-TLS echo server with a thread a connection, as the ssl module's documentation shows it.

    python -m benchmarks.peers.echo --certs DIR [--answer BYTES]   prints its port

--answer: so many bytes for whatever one recv() gave, instead of the same ones; for requests and answers that differ in
size. It works for clients with one request outstanding.
"""

import argparse
import socket
import ssl
import threading
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--certs", type=Path, required=True)
    parser.add_argument("--answer", type=int)
    options = parser.parse_args()
    certs: Path = options.certs
    answer = None if options.answer is None else bytes(options.answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certs / "ca.crt")
    context.load_cert_chain(certs / "server.crt", certs / "server.key")
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=echo, args=(context, connection, answer), daemon=True).start()


def echo(context: ssl.SSLContext, connection: socket.socket, answer: bytes | None) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with context.wrap_socket(connection, server_side=True) as tls:
        while data := tls.recv(65_536):
            tls.sendall(data if answer is None else answer)


if __name__ == "__main__":
    main()
