"""The passdb chain: who may log in.

The order of steps is Dovecot's (``core:2.3.21.1:src/auth/auth-request.c:auth_request_handle_passdb_callback``).
"""

from collections.abc import Coroutine, Sequence
from dataclasses import replace
from random import uniform
from time import perf_counter
from typing import Any, Final

from authlua import passwords
from authlua.auth.cache import Cache, Entry
from authlua.auth.databases import CredentialsKeeper, Log, Passdb
from authlua.auth.entries import PassdbEntry, Rule
from authlua.auth.events import Observe, Told
from authlua.auth.fields import FieldSetter
from authlua.auth.policy import Policy
from authlua.auth.refusals import with_password
from authlua.auth.sharing import SharedPassdb, Sharing
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.request import AuthRequest
from authlua.results import PassdbReply, PassdbResult
from authlua.secret import Secret
from authlua.variables import ExpansionError, Template, request_variables
from authlua.wishes import Hash, Sleep, Unfulfilled

OK: Final = PassdbResult.OK
NEXT: Final = PassdbResult.NEXT
INTERNAL_FAILURE: Final = PassdbResult.INTERNAL_FAILURE
PASSWORD_MISMATCH: Final = PassdbResult.PASSWORD_MISMATCH
SCHEME_NOT_AVAILABLE: Final = PassdbResult.SCHEME_NOT_AVAILABLE
USER_UNKNOWN: Final = PassdbResult.USER_UNKNOWN


class Wanted:
    """What one lookup wants of a password, and what it came to.

    Args:
        scheme: the scheme of the credentials; empty wants only the user's fields.
        realm: DIGEST-MD5's, when it is not the user's domain anyway.
    """

    __slots__ = ("earlier", "entry", "found", "realm", "scheme")

    def __init__(self, scheme: str, realm: str | None = None) -> None:
        self.scheme = scheme
        self.realm = realm
        self.found: Secret | None = None
        self.earlier: Secret | None = None
        """What a passdb found before the chain went on; it counts if the last one has nothing."""
        self.entry: PassdbEntry | None = None
        """The passdb that answered."""

    @property
    def credentials(self) -> Secret:
        """The credentials in the scheme that was wanted."""
        return self.found or self.earlier or Secret(b"")


class PassdbChain:
    """All passdbs, in order.

    Args:
        internal_failure_delay: seconds that an internal failure is held back (2.4), up to half of it more by chance.
        verbose: log what the databases found.
        needs_certificate: of every client, in the end.
        verbose_passwords: ``no``, ``plain`` or ``sha1``, the last two maybe with ``:length``: what the log may say of
            passwords that were refused.
        debug: log each step.
        cache: remembers what passdbs with a cache key answered.
        cache_verify_elsewhere: compare with cached hashes off the event loop, quick ones too.
        policy: is asked before the first passdb of a login.
        observe: hears of each passdb's answer.
    """

    def __init__(
        self,
        entries: Sequence[PassdbEntry],
        *,
        dialect: Dialect,
        setter: FieldSetter,
        log: Log,
        internal_failure_delay: float,
        allow_weak_schemes: bool,
        limits: passwords.Limits,
        verbose: bool,
        verbose_passwords: str,
        debug: bool,
        needs_certificate: bool = False,
        cache: Cache | None = None,
        cache_verify_elsewhere: bool = False,
        policy: Policy | None = None,
        observe: Observe | None = None,
    ) -> None:
        self._observe = observe
        self._needs_certificate = needs_certificate and dialect is Dialect.V2_4
        self._told = Told(entries, dialect)
        self._policy = policy
        if cache is not None:
            entries = [
                entry if entry.cache_key is None else replace(entry, passdb=SharedPassdb(entry.passdb, entry.cache_key))
                for entry in entries
            ]
        self._cache = cache
        self._cache_verify_elsewhere = cache_verify_elsewhere
        self._verifications: Sharing[bool] = Sharing()
        self._masters = [entry for entry in entries if entry.master]
        self._passdbs = [entry for entry in entries if not entry.master]
        self._dialect = dialect
        self._setter = setter
        self._log = log
        self._internal_failure_delay = internal_failure_delay
        self._allow_weak = allow_weak_schemes
        self._limits = limits
        self._verbose_passwords = verbose_passwords
        self._verbose = verbose or debug
        self._debug = debug
        self._log_name = "" if dialect is Dialect.V2_3 else "auth"
        """Who speaks in the log between passdbs; empty: the mech."""

    async def verify_plain(self, request: AuthRequest, password: Secret) -> PassdbResult:
        """Is *password* the user's?"""
        request.password = password
        if request.requested_login_user is not None and not self._masters:
            return USER_UNKNOWN
        if self._policy is not None and not await self._policy.allows_attempt(request):
            return PASSWORD_MISMATCH
        typed = password.reveal()
        # numbers: before it looks for bytes in bytes, Python raises and drops an exception that they are none
        if 1 in typed or 9 in typed or 10 in typed or 13 in typed:
            self._info(None, request, "Attempted login with password having illegal chars")
            return USER_UNKNOWN
        try:
            return await self._run(request, None)
        finally:
            request.log_name = ""

    async def lookup(self, request: AuthRequest, wanted: Wanted) -> PassdbResult:
        """Fetch the user's fields, whatever the password, and what is *wanted* of the password."""
        if self._policy is not None and request.mech and not await self._policy.allows_attempt(request):
            return PASSWORD_MISMATCH
        if (
            request.mech
            and not wanted.scheme
            and self._dialect is not Dialect.V2_3
            and self._next(self._passdbs, 0, request) == len(self._passdbs)
        ):
            # the mech has seen to the user itself, and no passdb has anything to add
            return OK
        try:
            result = await self._run(request, wanted)
        finally:
            request.log_name = ""
        if result is SCHEME_NOT_AVAILABLE and request.passdbs_seen_user_unknown:
            # a passdb that has the scheme did not have the user
            return USER_UNKNOWN
        return result

    async def set_credentials(self, request: AuthRequest, wanted: Wanted, scheme: str, value: Secret) -> bool:
        """Store *value*, with its *scheme* in braces, in the passdb that answered; whether that is done."""
        entry = wanted.entry
        if entry is None or not isinstance(entry.passdb, CredentialsKeeper):
            self._log("error", "the passdb cannot store credentials", request, {})
            return False
        if self._cache is not None and entry.cache_key is not None:
            self._cache.forget(entry.cache_key.expand(request))
        try:
            return await entry.passdb.set_credentials(request, Secret(scheme.encode() + value.reveal()))
        except ScriptError as error:
            self._log("error", str(error), request, {"passdb": entry.name})
            return False

    # --- one passdb ----------------------------------------------------------

    def _ask(
        self, entry: PassdbEntry, request: AuthRequest, wanted: Wanted | None
    ) -> Coroutine[Any, Any, PassdbResult]:
        """Have the request's password verified, or look up what is *wanted*."""
        if wanted is None:
            return self._verify(entry, request)
        if wanted.earlier is None and request.skip_password_check:
            wanted.earlier = wanted.found
        wanted.found = None
        return self._lookup(entry, request, wanted)

    async def _verify(self, entry: PassdbEntry, request: AuthRequest) -> PassdbResult:
        password = request.password
        if password is None:
            raise AssertionError("a request is verified with a password")
        passdb = entry.passdb
        try:
            if passdb.verifies:
                reply = await passdb.verify_plain(request, password)
            else:
                reply = await passdb.lookup(request)
        except ScriptError as error:
            self._log("error", str(error), request, {"passdb": entry.name})
            return INTERNAL_FAILURE
        result = self._import(entry, request, reply)
        if passdb.verifies:
            if result is PASSWORD_MISMATCH:
                self._refused(entry, request, reply.text or "Password mismatch")
            return result
        if result is not OK:
            return result
        result = self._judge_stored(entry, request, reply)
        if result is not OK or request.skip_password_check:
            return result
        if entry.deny:
            return PASSWORD_MISMATCH
        stored = request.credentials
        if not stored:
            self._note(entry, request, "Allowing any password")
            return OK
        return await self._check(entry, request, password, stored)

    async def _lookup(self, entry: PassdbEntry, request: AuthRequest, wanted: Wanted) -> PassdbResult:
        try:
            reply = await entry.passdb.lookup(request)
        except ScriptError as error:
            self._log("error", str(error), request, {"passdb": entry.name})
            return INTERNAL_FAILURE
        result = self._import(entry, request, reply)
        if result is OK:
            result = self._judge_stored(entry, request, reply)
        if result is not OK or "noauthenticate" in request.passdb_fields:
            return result
        wanted.entry = entry
        if request.credentials:
            return await self._convert(wanted, entry, request, request.credentials)
        if not wanted.scheme or wanted.earlier is not None:
            return OK
        self._info(entry, request, f"Requested {wanted.scheme} scheme, but we have a NULL password")
        return SCHEME_NOT_AVAILABLE

    async def _convert(self, wanted: Wanted, entry: PassdbEntry, request: AuthRequest, stored: str) -> PassdbResult:
        """Dovecot's ``passdb_get_credentials``."""
        job = stored, wanted.scheme, request.original_user or "", entry.default_scheme, wanted.realm, self._dialect
        try:
            if passwords.is_slow(stored, entry.default_scheme, wanted=wanted.scheme):
                wanted.found = await Hash(_credentials, *job)
            else:
                wanted.found = _credentials(*job)
        except passwords.UnknownScheme as unknown:
            self._log("error", str(unknown), request, {"passdb": entry.name})
        except passwords.MalformedHash as malformed:
            self._log("error", describe(malformed), request, {"passdb": entry.name})
        except passwords.SchemeMismatch as mismatch:
            self._info(entry, request, str(mismatch))
        except Unfulfilled as unfulfilled:
            self._log("error", f"Making {wanted.scheme} credentials: {unfulfilled}", request, {"passdb": entry.name})
            return INTERNAL_FAILURE
        else:
            # who wanted anything, from now on wants what was found here (core:2.3.21.1:src/auth/passdb.c)
            wanted.scheme = wanted.scheme or passwords.split_scheme(stored, entry.default_scheme)[0]
            return OK
        return SCHEME_NOT_AVAILABLE

    def _import(self, entry: PassdbEntry, request: AuthRequest, reply: PassdbReply) -> PassdbResult:
        """Set the fields of *reply*, and log what its result alone says."""
        result, text = reply.result, reply.text
        if reply.fields:
            self._setter.set_passdb_fields(request, reply.fields, default_scheme=entry.default_scheme)
        if result is OK:
            return OK
        if result is INTERNAL_FAILURE:
            self._log("error", text, request, {"passdb": entry.name})
        elif result is USER_UNKNOWN:
            self._refused(entry, request, text or "unknown user")
        elif text and result is SCHEME_NOT_AVAILABLE:
            self._note(entry, request, text)
        elif text and result is not PASSWORD_MISMATCH:  # which is told where a password was verified
            self._info(entry, request, text)
        return result

    def _judge_stored(self, entry: PassdbEntry, request: AuthRequest, reply: PassdbReply) -> PassdbResult:
        """May a passdb return this password, or none? Only the field of that very name counts, and a scheme alone not.

        ``core:2.3.21.1:src/auth/passdb-lua.c:passdb_lua_lookup``
        """
        if entry.driver != "lua":
            return self._judge_set(entry, request)
        stored: str | None = None
        for name, value in reply.fields:
            if name == "password":
                stored = value
                break
        if stored and not (stored[0] == "{" and stored.find("}") == len(stored) - 1 > 0):
            if "nopassword" in request.passdb_fields:
                self._info(entry, request, "nopassword given and password is not empty")
                return PASSWORD_MISMATCH
        elif "nopassword" not in request.passdb_fields and not request.skip_password_check:
            self._info(entry, request, "No password returned (and no nopassword)")
            return PASSWORD_MISMATCH
        return OK

    def _judge_set(self, entry: PassdbEntry, request: AuthRequest) -> PassdbResult:
        """The same where Dovecot's passdb sets its password as it sets any field: of a password and ``nopassword``,
        2.3 believes the former, and 2.4 the latter.

        ``core:2.3.21.1:src/auth/auth-request.c:auth_request_set_field``
        """
        fields = request.passdb_fields
        if request.credentials and "nopassword" in fields:
            if self._dialect is not Dialect.V2_3 or "noauthenticate" in fields:
                request.credentials = ""
            else:
                self._log("error", "nopassword set but password is non-empty", request, {"passdb": entry.name})
                fields.discard("nopassword")
        if not request.credentials and "nopassword" not in fields and not request.skip_password_check:
            self._info(entry, request, "No password returned (and no nopassword)")
            return PASSWORD_MISMATCH
        return OK

    async def _check(
        self,
        entry: PassdbEntry,
        request: AuthRequest,
        password: Secret,
        stored: str,
        *,
        elsewhere: bool = False,
        final: bool = True,
    ) -> PassdbResult:
        """Is *password* the one behind *stored*? Whoever else asks that meanwhile shares the work of a slow hash.

        A no that is not *final* is nothing for the log.
        """
        user = request.original_user or ""
        try:
            parsed = passwords.Stored(stored, entry.default_scheme)
            if elsewhere or parsed.slow:
                key = password, stored, user, entry.default_scheme
                job = Hash(_fits, parsed, password, user, self._allow_weak, self._limits)
                matches = await self._verifications.fetch(key, lambda: job)
            else:
                matches = parsed.fits(password.reveal(), user, self._allow_weak, self._limits)
        except passwords.UnknownScheme as unknown:
            self._log("error", str(unknown), request, {"passdb": entry.name})
            return PassdbResult.SCHEME_NOT_AVAILABLE
        except passwords.MalformedHash as malformed:
            self._log("error", describe(malformed), request, {"passdb": entry.name})
            return INTERNAL_FAILURE
        except Unfulfilled as unfulfilled:
            self._log("error", f"Verifying the password: {unfulfilled}", request, {"passdb": entry.name})
            return INTERNAL_FAILURE
        if not matches:
            if final:
                self._refused(entry, request, "Password mismatch")
            return PASSWORD_MISMATCH
        return OK

    # --- the cache -----------------------------------------------------------

    async def _remembered(
        self, cache: Cache, key: str, entry: PassdbEntry, request: AuthRequest, wanted: Wanted | None
    ) -> PassdbResult:
        """What `_ask` comes to, from the cache where it is known (``core:2.3.21.1:src/auth/passdb-cache.c``)."""
        found = cache.find(key)
        if found is None:
            self._note(entry, request, "cache miss" if cache.any_age(key) is None else "cache expired")
        else:
            self._note(entry, request, f"cache hit: {found}")
            request.cached = True
            result = await self._use(cache, found, entry, request, wanted)
            if result is not None:
                return result
        request.cached = False
        result = await self._ask(entry, request, wanted)
        if result is INTERNAL_FAILURE:
            found = cache.any_age(key)
            if found is not None:
                self._info(entry, request, "Falling back to expired data from cache")
                used = await self._use(cache, found, entry, request, wanted)
                if used is not None:
                    request.cached = True
                    return used
        elif result is USER_UNKNOWN:
            cache.keep_unknown(key)
        elif (result is OK and "noauthenticate" not in request.passdb_fields) or result is PASSWORD_MISMATCH:
            stored = request.credentials
            if not stored and "nopassword" not in request.passdb_fields:
                if result is not OK or request.password is None or request.skip_password_check:
                    return result
                # the passdb knows passwords and does not tell them; this one is right
                stored = passwords.encode(request.password.reveal(), "SSHA256")
            elif stored and "nopassword" in request.passdb_fields:
                return result
            cache.keep(key, stored, request.passdb_fields.changed(), success=result is OK)
        return result

    async def _use(
        self, cache: Cache, found: Entry, entry: PassdbEntry, request: AuthRequest, wanted: Wanted | None
    ) -> PassdbResult | None:
        """What *found* says; `None` when the password may have changed since, so that only the passdb can tell."""
        if found.fields is None:
            self._refused(entry, request, "unknown user")
            return USER_UNKNOWN
        password = request.password
        if wanted is not None or password is None:
            return await self._ask(replace(entry, passdb=_Remembered(found, entry.passdb)), request, wanted)
        result = OK
        if entry.deny:
            result = PASSWORD_MISMATCH
        elif not found.credentials:
            self._info(entry, request, "Cached NULL password access")
        elif not request.skip_password_check:
            elsewhere = self._cache_verify_elsewhere
            outdated = cache.may_be_outdated(found)
            result = await self._check(
                entry, request, password, found.credentials, elsewhere=elsewhere, final=not outdated
            )
            if result is PASSWORD_MISMATCH and outdated:
                found.last_success = False
                return None
            found.last_success = result is OK
        self._setter.set_passdb_fields(request, found.fields, default_scheme=entry.default_scheme)
        request.credentials = found.credentials
        return result

    # --- the chain -----------------------------------------------------------

    async def _run(self, request: AuthRequest, wanted: Wanted | None) -> PassdbResult:
        """What all come to: whether the request's password is right, or what they have of what is *wanted*."""
        chain: Sequence[PassdbEntry] = self._masters if request.requested_login_user is not None else self._passdbs
        at = self._next(chain, 0, request)
        if at == len(chain):
            self._say("error", "All password databases were skipped", request)
            return INTERNAL_FAILURE
        if request.requested_login_user is not None and (self._debug or request.debug):
            self._say("debug", f"Master user lookup for login: {request.requested_login_user}", request)
        success = False
        _snapshot(request)
        while True:
            entry = chain[at]
            request.log_name = entry.name
            request.credentials = None
            if self._observe is not None:
                self._observe(self._told.started(entry.id), request, 0.0)
            started = perf_counter() if self._observe is not None else 0.0
            if entry.default_fields and not self._expand(entry, entry.default_fields, request):
                result = INTERNAL_FAILURE
            elif self._cache is None or entry.cache_key is None:
                result = await self._ask(entry, request, wanted)
            else:
                result = await self._remembered(self._cache, entry.cache_key.expand(request), entry, request, wanted)
            fields = request.passdb_fields
            if result is OK and self._needs_certificate and not request.valid_client_cert:
                # what was shown is no certificate that anybody knows (from 2.4.2 on)
                self._info(entry, request, "Client didn't present valid SSL certificate")
                result = PASSWORD_MISMATCH
            if result is OK and "noauthenticate" in fields:
                result = NEXT
            if self._observe is not None:
                cache = ""
                if self._cache is not None and entry.cache_key is not None:
                    cache = "hit" if request.cached else "miss"
                told = self._told.finished(entry.id, result, cache)
                self._observe(told, request, perf_counter() - started)
            if entry.override_fields and not self._expand(entry, entry.override_fields, request):
                result = INTERNAL_FAILURE
            if entry.deny and result is not USER_UNKNOWN:
                if result is not INTERNAL_FAILURE:
                    self._info(None, request, "User found from deny passdb")
                    result = PassdbResult.USER_DISABLED
                return await self._end(request, result)
            if request.failed:
                request.failed = False
                if result is OK:
                    result = USER_UNKNOWN
            if result is PassdbResult.USER_DISABLED:
                return result
            if result is PassdbResult.PASS_EXPIRED:
                request.passdb_fields["reason"] = "Password expired"
                return result

            rule = self._rule(entry, request, result)
            if rule.success is not None:
                success = rule.success
            if rule.verified or (rule.verified is None and result is OK):
                request.skip_password_check = True
            fields.discard("nopassword", "noauthenticate")
            chain, at = self._after(chain, at, request, result)
            if result is OK or result is NEXT:
                _snapshot(request)
            else:
                _rollback(request)
            if rule.go_on:
                at = self._next(chain, at, request)
                if at < len(chain):
                    if result is USER_UNKNOWN:
                        request.passdbs_seen_user_unknown = True
                    elif result is INTERNAL_FAILURE:
                        request.passdbs_seen_internal_failure = True
                    continue
            return await self._end(request, self._verdict(request, result, success))

    def _rule(self, entry: PassdbEntry, request: AuthRequest, result: PassdbResult) -> Rule:
        if result is OK:
            return entry.result_success
        if result is INTERNAL_FAILURE:
            return entry.result_internalfail
        if result is NEXT:
            self._note(entry, request, "Not performing authentication (noauthenticate set)")
            return _NEXT_RULE
        return entry.result_failure

    def _after(
        self, chain: Sequence[PassdbEntry], at: int, request: AuthRequest, result: PassdbResult
    ) -> tuple[Sequence[PassdbEntry], int]:
        """Where the chain stands now: behind this passdb, or, once a master is known, at the users' first."""
        target = request.requested_login_user
        if result is OK and target is not None:
            self._info(None, request, f"Master user logging in as {target}")
            request.master_user = request.user
            request.user = request.translated_user = target
            request.requested_login_user = None
            return self._passdbs, 0
        return chain, at + 1

    def _next(self, chain: Sequence[PassdbEntry], at: int, request: AuthRequest) -> int:
        while at < len(chain):
            why = chain[at].skipped(request)
            if why is None:
                break
            if self._debug or request.debug:
                self._say("debug", f"skipping passdb: {why}", request)
            at += 1
        return at

    def _verdict(self, request: AuthRequest, result: PassdbResult, success: bool) -> PassdbResult:
        if success and (result is not NEXT or self._dialect is not Dialect.V2_3):
            return OK
        if self._dialect is not Dialect.V2_3 and request.passdbs_seen_internal_failure:
            return INTERNAL_FAILURE
        if result is NEXT:
            self._log("error", "Last passdb had noauthenticate field, cannot authenticate user", request, {})
            return INTERNAL_FAILURE
        if request.passdbs_seen_internal_failure:
            return INTERNAL_FAILURE
        # an OK that no rule made a success is none
        return PASSWORD_MISMATCH if result is OK else result

    async def _end(self, request: AuthRequest, result: PassdbResult) -> PassdbResult:
        if result is INTERNAL_FAILURE and self._dialect is not Dialect.V2_3 and self._internal_failure_delay:
            await Sleep(self._internal_failure_delay * uniform(1, 1.5))
        return result

    def _expand(self, entry: PassdbEntry, fields: Sequence[tuple[str, Template]], request: AuthRequest) -> bool:
        for name, template in fields:
            try:
                value = template.expand(request_variables(request, self._dialect, id=str(entry.id)), strict=True)
            except ExpansionError as error:
                self._log("error", f"Failed to expand {name}={template.text}: {error}", request, {"passdb": entry.name})
                return False
            self._setter.set_passdb_field(request, name, value, default_scheme=entry.default_scheme)
        return True

    # --- the log -------------------------------------------------------------

    def _refused(self, entry: PassdbEntry, request: AuthRequest, text: str) -> None:
        """A password or user was refused; ``verbose_passwords`` adds the password, and writes the line in any case."""
        last = entry.id == (self._masters if entry.master else self._passdbs)[-1].id
        told = with_password(text, self._verbose_passwords, request, following="" if last else "passdb")
        if told is None:
            self._info(entry, request, text)
        else:
            self._log("info", told, request, {"passdb": entry.name})

    def _info(self, entry: PassdbEntry | None, request: AuthRequest, text: str) -> None:
        verbose = self._verbose if entry is None or entry.verbose is None else entry.verbose
        if verbose or request.debug:
            name = request.log_name
            if entry is None:
                request.log_name = "auth"
            self._log("info", text, request, {} if entry is None else {"passdb": entry.name})
            request.log_name = name

    def _say(self, level: str, text: str, request: AuthRequest) -> None:
        """A line that is about no passdb."""
        name, request.log_name = request.log_name, self._log_name
        self._log(level, text, request, {})
        request.log_name = name

    def _note(self, entry: PassdbEntry, request: AuthRequest, text: str) -> None:
        if self._debug or request.debug:
            self._log("debug", text, request, {"passdb": entry.name})


_NEXT_RULE: Final = Rule(True, None)


class _Remembered:
    """What is remembered of *passdb*, about one user. What is to be stored goes to the passdb itself."""

    verifies = False

    def __init__(self, found: Entry, passdb: Passdb) -> None:
        self._found = found
        if isinstance(passdb, CredentialsKeeper):
            self.set_credentials = passdb.set_credentials

    async def verify_plain(self, request: AuthRequest, password: Secret) -> PassdbReply:
        raise AssertionError("a remembered password is compared by the chain")

    async def lookup(self, request: AuthRequest) -> PassdbReply:
        return PassdbReply(OK, [*(self._found.fields or ()), ("password", self._found.credentials)])


def _fits(stored: passwords.Stored, password: Secret, user: str, allow_weak: bool, limits: passwords.Limits) -> bool:
    return stored.fits(password.reveal(), user, allow_weak, limits)


def _credentials(
    stored: str, wanted: str, user: str, default_scheme: str, realm: str | None, dialect: Dialect
) -> Secret:
    return Secret(
        passwords.credentials(stored, wanted, user=user, default_scheme=default_scheme, realm=realm, dialect=dialect)
    )


def describe(error: passwords.MalformedHash) -> str:
    """Dovecot's line for a stored password that cannot be used."""
    return str(error) if error.stage == "decode" else f"Invalid password in passdb: {error}"


def _snapshot(request: AuthRequest) -> None:
    request.passdb_fields.snapshot()
    if request.userdb_fields is not None:
        request.userdb_fields.snapshot()


def _rollback(request: AuthRequest) -> None:
    request.passdb_fields.rollback()
    if request.userdb_fields is not None:
        request.userdb_fields.rollback()
        if not request.userdb_fields:
            request.userdb_fields = None
