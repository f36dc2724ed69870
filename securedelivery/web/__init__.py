"""The web door: REST, pages and WebSockets over the table of api.methods, in the process of the server.

    server.py       uvicorn in a thread of its own: listener, TLS, limits, the end
    connections.py  one TLS connection: its certificate, its deadlines
    app.py          which request goes where; headers.py what every answer carries
    visits.py       who asks: cookie, certificate, CSRF
    desk.py         one call of the table, from asyncio
    rest.py routes.py problems.py openapi.py    /api
    live.py         /api/chat/live
    pages/ templates/ static/ rendering.py      the page

Imported where `--web` is given, and only there, but for settings.py.
"""
