"""The protocol of docs/protocol.md as a sans-I/O core: bytes in, events out, bytes to send. No socket, thread or clock.

noise.py            the Noise objects: CipherState, SymmetricState, HandshakeState
frames.py           the four frame kinds, their header, padding and limits
certificates.py     chains, identities and revocation lists: whom to believe
authentication.py   the AUTH frame and its transcript
jsonrpc.py          JSON-RPC 2.0 messages
connection.py       the state machine that joins them
"""
