"""The flow of a request: who may log in, and where their mail lives.

Knows neither trio nor Lua; it names what it needs as `Passdb` and `Userdb`.
"""

from authlua.auth.cache import Cache, CacheKey
from authlua.auth.databases import CredentialsKeeper, Log, Passdb, Userdb
from authlua.auth.entries import RULES, PassdbEntry, Rule, UserdbEntry
from authlua.auth.events import Event, Observe, about_request
from authlua.auth.flow import Auth, AuthOptions
from authlua.auth.penalty import Penalty
from authlua.auth.policy import Policy, PolicyOptions
from authlua.auth.requests import new_request

__all__ = [
    "RULES",
    "Auth",
    "AuthOptions",
    "Cache",
    "CacheKey",
    "CredentialsKeeper",
    "Event",
    "Log",
    "Observe",
    "Passdb",
    "PassdbEntry",
    "Penalty",
    "Policy",
    "PolicyOptions",
    "Rule",
    "Userdb",
    "UserdbEntry",
    "about_request",
    "new_request",
]
