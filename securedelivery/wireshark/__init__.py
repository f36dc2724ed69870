"""The Wireshark teaching kit: a demonstration in eight acts, and a relay that records real traffic.

pcapng.py    the file format
tcp.py       packets around what a relay forwards, with headers of its own making
capture.py   what was recorded, in the order of recording
recording.py a capture that goes into a file as it is made
relay.py     forwards connections and records them; needs no rights and no configuration
securedelivery.lua, aesgcm.lua, plugin.py    the dissector, in one file for the user

authority.py stage.py gateway.py raw_client.py    certificates, shop, attackers of the demonstration
attacks.py harvest.py    what the attackers do to frames, and what a quantum computer could do with a recording
acts.py      plays the acts; play.py is what that leaves
tls13.py opened.py    open recorded connections with the keys, as Wireshark does
narration.py files.py profile.py    the three captures with their comments, and a Wireshark profile
story/ lesson.py     the same as a story, and as a page to read and print
demo.py      all of that in one call

pcapng, tcp, capture, recording and relay need the base install only.
"""
