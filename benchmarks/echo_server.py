"""The floor: a bare mutual-TLS echo server with a thread a connection, as the ssl module's documentation shows it.

python echo_server.py CERTS_DIRECTORY   prints its port
"""

import socket
import ssl
import sys
import threading
from pathlib import Path


def main() -> None:
    certs = Path(sys.argv[1])
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
            threading.Thread(target=echo, args=(context, connection), daemon=True).start()


def echo(context: ssl.SSLContext, connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with context.wrap_socket(connection, server_side=True) as tls:
        while data := tls.recv(65_536):
            tls.sendall(data)


if __name__ == "__main__":
    main()
