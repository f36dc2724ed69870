"""What the story is called, what its words mean, and how its captures are opened."""

from securedelivery.wireshark.story.prose import prose

__all__ = ["CAST", "COMMAND", "STAGING", "TITLE", "WORDS"]

TITLE = "Two envelopes"

COMMAND = prose("""
        WIRESHARK_CONFIG_DIR="$PWD/wireshark" wireshark -C securedelivery -X lua_script:"$PWD/securedelivery.lua"
        3-all-opened.pcapng
    """)
"""For a shell, in the folder of the files."""

STAGING = prose("""
        All of it ran on one machine. The addresses are those set aside for documentation (RFC 5737), and the packets'
        headers were put around what was sent, so those who speak of "localhost" and "127.0.0.1" mean each other.
        Everything inside TCP is byte for byte what was sent. "sslv3" is OpenSSL's old word for some
        alerts: the version is TLS 1.3.
    """)

CAST = (
    ("shop", "192.0.2.1", "the server, where orders are placed"),
    ("alice", "192.0.2.10", "a customer, with a certificate"),
    ("bob", "192.0.2.11", "another customer, with a certificate of his own"),
    ("sam", "192.0.2.20", "works in support and answers in the chat"),
    (
        "gateway",
        "192.0.2.66",
        "ends TLS before the shop and begins it anew; Alice's computer trusts its authority in TLS",
    ),
    ("mallory", "192.0.2.99", "would like to be somebody else"),
)
"""Name, address in the captures, and who that is."""

WORDS = (
    (
        "AES-GCM",
        prose("""
            A way to encrypt: AES turns a key and a counter into a stream of bytes, which is added (XOR) to the message,
            and a tag of 16 bytes is computed over the result. AES-256 means a key of 256 bits.
        """),
    ),
    ("ALPN", "In the ClientHello: which protocol is to be spoken inside TLS."),
    (
        "Associated data",
        "Bytes that are sent in clear and yet covered by the tag: here the four bytes of a frame's header.",
    ),
    ("Certificate", "A statement, signed by an authority that both sides trust, whose public key this is."),
    ("Ciphertext", "What encryption makes of a text. Without the key it looks like noise."),
    (
        "Ephemeral key",
        prose("""
            A key made for one connection and forgotten after it. Who steals a long-lived key later cannot open what
            was recorded before.
        """),
    ),
    ("Frame", "The inner envelope: four bytes of header (kind, flags, length) and a body."),
    ("Gateway", "A device before a server that ends TLS for it: a load balancer, a firewall, a virus scanner."),
    ("Handshake", "The first messages of a connection, in which both sides agree on keys."),
    (
        "Idempotency key",
        prose("""
            A name that a client gives to an order. The shop carries out what bears the same name once, however often it
            comes.
        """),
    ),
    (
        "Key encapsulation (KEM)",
        prose("""
            Somebody takes your public key and makes two things with it: a secret, and a ciphertext that only your
            private key turns into the same secret. ML-KEM-768 (FIPS 203) is one that is believed to withstand quantum
            computers.
        """),
    ),
    ("Key log", "A file with the keys of connections, for teaching and debugging. Whoever has it reads everything."),
    ("Nonce", "A number that is used once with a key. Here it is the frame's counter."),
    ("Record", "The outer envelope: what TLS encrypts at once."),
    ("SNI", "In the ClientHello: the name of the server that is wanted, in clear."),
    (
        "Tag",
        "16 bytes that only who has the key can compute over a ciphertext. If one bit is different, the tag is wrong.",
    ),
    ("X25519", "A way to agree on a secret over a line that everybody hears (Diffie-Hellman on an elliptic curve)."),
)
"""In the order of the alphabet."""
