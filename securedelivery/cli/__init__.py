"""The command line.

main.py       the commands, each imported when it is used; run() with its exit codes
lazy.py       groups of such commands
service.py    flags, profile, connection and login, for the commands that need them
profile.py account.py catalog.py order.py rewards.py shop.py    the customer's commands
deliveries.py support.py    the couriers' and the agents' commands
tracking.py chat.py live.py line_editor.py    what goes on until it is ended: order track, chat, support chat
menu*.py      the menu, `shop`
operators.py admin_*.py doctor.py    serve, admin, doctor
output.py     how each structure looks, as text and as JSON
terminal.py   the only module that writes to stdout and stderr
text.py       money, times, and text of others made harmless
failures.py   every error as `error:` and `hint:`, with its exit code
"""
