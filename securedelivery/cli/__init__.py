"""The command line.

main.py       the commands, each imported when it is used; run() with its exit codes
service.py    flags, profile, connection and login, for the commands that need them
profile.py account.py catalog.py order.py shop.py    the customer's commands
operators.py  serve, admin
output.py     how each structure looks, as text and as JSON
terminal.py   the only module that writes to stdout and stderr
text.py       money, times, and text of others made harmless
failures.py   every error as `error:` and `hint:`, with its exit code
"""
