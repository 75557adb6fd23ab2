"""The userdb chain: where a user's mail lives.

As in Dovecot's ``core:2.3.21.1:src/auth/auth-request.c:auth_request_userdb_callback``.
"""

import grp
import os
import pwd
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from random import uniform
from time import perf_counter

from authlua.auth.cache import Cache, Entry
from authlua.auth.databases import Log
from authlua.auth.entries import Rule, UserdbEntry
from authlua.auth.events import Observe, Told
from authlua.auth.fields import FieldSetter
from authlua.auth.refusals import with_password
from authlua.auth.sharing import SharedUserdb
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.fields import Fields
from authlua.listing import Listing
from authlua.request import AuthRequest
from authlua.results import PassdbResult, UserdbResult
from authlua.variables import ExpansionError, Template, compile_template, request_variables
from authlua.wishes import Compute, Sleep

OK = UserdbResult.OK
INTERNAL_FAILURE = UserdbResult.INTERNAL_FAILURE
USER_UNKNOWN = UserdbResult.USER_UNKNOWN

_FOUND: Mapping[PassdbResult, UserdbResult] = {
    PassdbResult.OK: OK,
    PassdbResult.USER_UNKNOWN: USER_UNKNOWN,
    PassdbResult.USER_DISABLED: USER_UNKNOWN,
    PassdbResult.PASS_EXPIRED: USER_UNKNOWN,
    PassdbResult.INTERNAL_FAILURE: INTERNAL_FAILURE,
    PassdbResult.PASSWORD_MISMATCH: INTERNAL_FAILURE,
    PassdbResult.NEXT: INTERNAL_FAILURE,
}
"""What a passdb lookup tells about a user's existence (``src/auth/userdb-static.c:static_credentials_callback``)."""

MAX_ID = 1 << 31
"""The first number that Dovecot takes for neither a uid nor a gid."""


class UserdbChain:
    """All userdbs, in order; with none configured every user is found, without fields."""

    def __init__(
        self,
        entries: Sequence[UserdbEntry],
        *,
        dialect: Dialect,
        setter: FieldSetter,
        log: Log,
        internal_failure_delay: float,
        verbose: bool,
        verbose_passwords: str = "no",
        debug: bool,
        exists: Callable[[AuthRequest], Awaitable[PassdbResult]],
        cache: Cache | None = None,
        observe: Observe | None = None,
    ) -> None:
        self._observe = observe
        self._told = Told(entries, dialect)
        if cache is not None:
            entries = [
                entry if entry.cache_key is None else replace(entry, userdb=SharedUserdb(entry.userdb, entry.cache_key))
                for entry in entries
            ]
        self._exists = exists
        self._cache = cache
        self._entries = entries
        self._dialect = dialect
        self._setter = setter
        self._log = log
        self._internal_failure_delay = internal_failure_delay
        self._verbose = verbose or debug
        self._verbose_passwords = verbose_passwords
        self._debug = debug

    async def lookup(self, request: AuthRequest) -> UserdbResult:
        """Fill ``request.userdb_fields``; ``request.tempfail`` overrides whatever result."""
        if request.userdb_fields is None:
            request.userdb_fields = Fields()
        else:
            request.userdb_prefetched = True
        if not self._entries:
            return OK
        request.userdb_fields.snapshot()
        found = failed = False
        result = USER_UNKNOWN
        last = self._entries[0]
        for entry in self._entries:
            # the first is always asked (seen on 2.3.19.1 and 2.4.1)
            if entry is not self._entries[0]:
                if entry.skipped(found=found):
                    continue
                if result is not OK:
                    request.userdb_fields.rollback()
            last = entry
            request.log_name = entry.name
            if self._observe is not None:
                self._observe(self._told.started(entry.id), request, 0.0)
            started = perf_counter() if self._observe is not None else 0.0
            if self._cache is None or entry.cache_key is None:
                result = await self._ask(entry, request)
            else:
                result = await self._remembered(self._cache, entry.cache_key.expand(request), entry, request)
            if self._observe is not None:
                cache = ""
                if self._cache is not None and entry.cache_key is not None:
                    cache = "hit" if request.cached else "miss"
                told = self._told.finished(entry.id, result, cache)
                self._observe(told, request, perf_counter() - started)
            rule = _rule(entry, result)
            if rule.success is not None:
                found = rule.success
            if result is OK:
                request.userdb_fields.snapshot()
            if not rule.go_on or request.tempfail:
                break
            if result is INTERNAL_FAILURE:
                failed = request.userdbs_seen_internal_failure = True
        request.log_name = ""
        if result is not OK:
            if self._dialect is not Dialect.V2_3:
                request.userdb_fields.rollback()
            elif found and not request.tempfail and not self._expand(last, last.override_fields, request):
                # 2.3 gives the user, whoever found them, what the last one was asked with, too
                return INTERNAL_FAILURE
        if found:
            return OK
        if failed or result is INTERNAL_FAILURE:
            if self._dialect is not Dialect.V2_3 and self._internal_failure_delay:
                await Sleep(self._internal_failure_delay * uniform(1, 1.5))
            return INTERNAL_FAILURE
        return USER_UNKNOWN

    async def _ask(self, entry: UserdbEntry, request: AuthRequest) -> UserdbResult:
        if not self._expand(entry, entry.default_fields, request):
            return INTERNAL_FAILURE
        if entry.asks_passdbs and not request.mech:
            result = _FOUND.get(await self._exists(request))
            request.log_name = entry.name
            if request.userdb_fields is None:
                request.userdb_fields = Fields()
            if result is not OK:
                if result is None:
                    problem = "passdb doesn't support lookups, can't verify user's existence"
                    self._log("error", problem, request, {"userdb": entry.name})
                return result or INTERNAL_FAILURE
        try:
            reply = await entry.userdb.lookup(request)
        except ScriptError as error:
            self._log("error", str(error), request, {"userdb": entry.name})
            return INTERNAL_FAILURE
        for name, value in reply.fields:
            self._setter.set_userdb_field(request, name, value)
        if reply.result is INTERNAL_FAILURE:
            self._log("error", reply.text, request, {"userdb": entry.name})
        elif reply.result is USER_UNKNOWN:
            self._unknown(entry, request)
        else:
            await self._resolve(entry, request)
            if not self._expand(entry, entry.override_fields, request):
                return INTERNAL_FAILURE
        return reply.result

    def _unknown(self, entry: UserdbEntry, request: AuthRequest) -> None:
        following = "" if entry.id == self._entries[-1].id else "userdb"
        told = with_password("unknown user", self._verbose_passwords, request, following=following)
        if told is not None or (self._verbose if entry.verbose is None else entry.verbose) or request.debug:
            self._log("info", told or "unknown user", request, {"userdb": entry.name})

    def tell_missing(self, request: AuthRequest) -> None:
        """The user has logged in, and nobody knows where the mail is."""
        last = self._entries[-1]
        is_2_3 = self._dialect is Dialect.V2_3
        alone = is_2_3 and len(self._entries) == 1
        request.log_name = last.name if alone else "" if is_2_3 else "auth"
        text = f"user not found from {'userdb' if alone else 'any userdbs'}"
        self._log("error", text, request, {"userdb": last.name})
        request.log_name = ""

    async def _remembered(self, cache: Cache, key: str, entry: UserdbEntry, request: AuthRequest) -> UserdbResult:
        """What the userdb says, from the cache where it is known (``…:auth_request_lookup_user_cache``)."""
        found = cache.find(key)
        if found is not None:
            request.cached = True
            self._note(entry, request, f"userdb cache hit: {found}")
            if found.fields is None and self._dialect is Dialect.V2_3:
                # should the user be found elsewhere, these stay
                self._expand(entry, entry.default_fields, request)
            return self._use(found, request)
        request.cached = False
        self._note(entry, request, f"userdb cache {'miss' if cache.any_age(key) is None else 'expired'}")
        user = request.user
        result = await self._ask(entry, request)
        fields = request.userdb_fields
        if request.tempfail or fields is None:
            return result
        if result is INTERNAL_FAILURE:
            found = cache.any_age(key)
            if found is not None:
                self._log("info", "Falling back to expired data from cache", request, {"userdb": entry.name})
                return self._use(found, request)
        elif result is USER_UNKNOWN:
            cache.keep_unknown(key)
        else:
            changed = fields.changed()
            cache.keep(key, None, [*changed, ("user", request.user)] if request.user != user else changed, success=True)
        return result

    def _use(self, found: Entry, request: AuthRequest) -> UserdbResult:
        if found.fields is None:
            return USER_UNKNOWN
        for name, value in found.fields:
            self._setter.set_userdb_field(request, name, value)
        return OK

    async def _resolve(self, entry: UserdbEntry, request: AuthRequest) -> None:
        """Turn names of system users and groups into the numbers that the consumers of a reply expect."""
        fields = request.userdb_fields
        if fields is None:
            return
        for name, kind in (("uid", "UID"), ("gid", "GID")):
            if name not in fields:
                continue
            value = fields.get(name) or ""
            if value.isascii() and value.isdigit() and int(value[:20]) < MAX_ID:
                fields[name] = str(int(value))
                continue
            try:
                fields[name] = str(await Compute(_uid if name == "uid" else _gid, value))
            except KeyError:
                self._log("error", f"Invalid {kind} value '{value}'", request, {"userdb": entry.name})
                request.tempfail = True
        path = fields.get("uidgid_file")
        if path is not None:
            fields.discard("uidgid_file")
            if self._dialect is Dialect.V2_3:
                try:
                    variables = request_variables(request, self._dialect, id=str(entry.id))
                    path = compile_template(path, self._dialect).expand(variables)
                except ExpansionError as why:
                    self._log("error", f"Failed to expand uidgid_file={path}: {why}", request, {"userdb": entry.name})
                    request.tempfail = True
                    return
            try:
                status = await Compute(os.stat, path)
            except OSError as error:
                self._log("error", f"stat({path}) failed: {error.strerror}", request, {"userdb": entry.name})
                request.tempfail = True
            else:
                fields["uid"], fields["gid"] = str(status.st_uid), str(status.st_gid)

    def iterate(self) -> Listing:
        """The users of all userdbs that know theirs, one after the other."""
        return _Listing([entry for entry in self._entries if entry.lists], self._told, self._observe)

    def _expand(self, entry: UserdbEntry, fields: Sequence[tuple[str, Template]], request: AuthRequest) -> bool:
        for name, template in fields:
            try:
                value = template.expand(request_variables(request, self._dialect, id=str(entry.id)), strict=True)
            except ExpansionError as error:
                self._log("error", f"Failed to expand {name}={template.text}: {error}", request, {"userdb": entry.name})
                return False
            self._setter.set_userdb_field(request, name, value)
        return True

    def _note(self, entry: UserdbEntry, request: AuthRequest, text: str) -> None:
        if self._debug or request.debug:
            self._log("debug", text, request, {"userdb": entry.name})


class _Listing:
    """The users of several userdbs."""

    def __init__(self, entries: Sequence[UserdbEntry], told: Told, observe: Observe | None) -> None:
        self._rest = iter(entries)
        self._failure: ScriptError | None = None
        if not entries:
            self._failure = ScriptError("Trying to iterate users, but userdbs don't support it")
        self._open: Listing | None = None
        self._observe = observe
        self._told = told
        self._id = 0
        self._started = 0.0

    async def piece(self) -> Sequence[str]:
        """Some more names; in the end a `ScriptError`, if one of the userdbs could not list all of its users."""
        while True:
            if self._open is None:
                following = next(self._rest, None)
                if following is None:
                    if self._failure is not None:
                        raise self._failure
                    return ()
                self._id = following.id
                if self._observe is not None:
                    self._observe(self._told.started(self._id), None, 0.0)
                    self._started = perf_counter()
                self._open = following.userdb.iterate()
            try:
                names = await self._open.piece()
            except ScriptError as failure:
                self._tell(INTERNAL_FAILURE)
                self._failure = self._failure or failure
                self.close()
                continue
            if names:
                return names
            self._tell(OK)
            self.close()

    def _tell(self, result: UserdbResult) -> None:
        if self._observe is not None:
            told = self._told.finished(self._id, result)
            self._observe(told, None, perf_counter() - self._started)

    def close(self) -> None:
        """Let go of the one that is being listed."""
        if self._open is not None:
            self._open.close()
            self._open = None


def _rule(entry: UserdbEntry, result: UserdbResult) -> Rule:
    if result is OK:
        return entry.result_success
    return entry.result_internalfail if result is INTERNAL_FAILURE else entry.result_failure


def _uid(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _gid(name: str) -> int:
    return grp.getgrnam(name).gr_gid
