"""The wire: lines, messages, handshakes and dialects of Dovecot's auth protocols, without a socket.

Bytes in, messages out; messages in, bytes out. Nothing here knows a clock, a password or a user database.
`ClientConnection` and `MasterConnection` are the server's ends, `AuthPeer` and `MasterPeer` the other ones.
"""

from authlua.protocol.client import Advertised, ClientConnection, ClientKind
from authlua.protocol.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from authlua.protocol.escaping import escape, unescape
from authlua.protocol.master import MasterConnection, MasterKind, MasterMessage, MasterReply
from authlua.protocol.messages import (
    Auth,
    CacheFlush,
    Cancel,
    Challenge,
    Cont,
    Fail,
    Failed,
    Flushed,
    Hello,
    List,
    ListDone,
    Listed,
    NotFound,
    Ok,
    Params,
    Pass,
    PassFound,
    Request,
    User,
    UserFound,
)
from authlua.protocol.peer import AuthPeer, Handshake, MasterPeer, Reply
from authlua.protocol.postlogin import PostLogin, encode_postlogin, parse_postlogin
from authlua.protocol.push import Push, PushReader, encode_answer

__all__ = [
    "Advertised",
    "Auth",
    "AuthPeer",
    "CacheFlush",
    "Cancel",
    "Challenge",
    "ClientConnection",
    "ClientKind",
    "Cont",
    "Fail",
    "Failed",
    "Flushed",
    "Handshake",
    "Hello",
    "List",
    "ListDone",
    "Listed",
    "LocalProtocolError",
    "MasterConnection",
    "MasterKind",
    "MasterMessage",
    "MasterPeer",
    "MasterReply",
    "NotFound",
    "Ok",
    "Params",
    "Pass",
    "PassFound",
    "PostLogin",
    "ProtocolError",
    "Push",
    "PushReader",
    "RemoteProtocolError",
    "Reply",
    "Request",
    "User",
    "UserFound",
    "encode_answer",
    "encode_postlogin",
    "escape",
    "parse_postlogin",
    "unescape",
]
