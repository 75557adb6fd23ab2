"""The conformance kit: the same questions to two servers of Dovecot's auth protocols, and a comparison of the answers.

`generate` makes sessions, `play` plays one against a server, `compare` tells where two servers differ, and `explore`
does all that with many at once. Nothing here knows how authlua works: it is asked over its sockets like the others.
"""
