"""Sockets, TLS and threads around the protocol core.

tls.py       contexts and credentials from the files of gen_certs.sh
keylog.py    key logs for Wireshark, for both sides
channel.py   TLS over memory, for both sides
peer.py      one connection of the server and the order of its requests
io.py        the I/O thread that alone touches its connections
workers.py   threads for what hashes or waits
server.py    acceptor, limits, drain and reload
"""
