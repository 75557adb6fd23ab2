"""What works, but hardly as it was meant."""

from authlua.config.settings import (
    TELLS_NO_PASSWORDS,
    PassdbSettings,
    Settings,
    UserdbSettings,
    filtered_mechanisms,
)

_AUTHZID_MECHS = {"PLAIN", "DIGEST-MD5", "EXTERNAL", "OAUTHBEARER", "XOAUTH2", "GSSAPI", "GSS-SPNEGO"}
"""Mechanisms, beside the SCRAM ones, in which a client can name another user to become."""


def doubts(settings: Settings) -> list[str]:
    """Parts of the configuration that can never have an effect; a server runs with them, and says so."""
    found = []
    masters = [one for one in settings.passdbs if one.master]
    separator = settings.auth.master_user_separator
    named = any(name in _AUTHZID_MECHS or name.startswith("SCRAM-") for name in settings.auth.mechanisms)
    if masters and not separator and not named:
        found.append("auth.master_user_separator: without one nobody can reach the master passdbs by these mechanisms")
    if separator and not masters:
        found.append("auth.master_user_separator: there is no master passdb, so names that contain it are refused")
    if settings.auth.cache_size and not settings.auth.cache_ttl:
        found.append("auth.cache_size: nothing is cached with a cache_ttl of 0")
    if settings.auth.debug and settings.log.level != "debug":
        found.append('auth.debug: nothing of it is seen without log.level = "debug"')
    for kind, chain in (("master ", masters), ("", [one for one in settings.passdbs if not one.master])):
        # masters that go on have verified the password for the others
        going_on = not kind and any(map(_verifies, masters))
        for index, passdb in enumerate(chain):
            where = f"{kind}passdb {passdb.name or passdb.driver!r}"
            earlier = chain[:index]
            if any(_ends(one) and not one.mechanisms and not one.username_filter for one in earlier):
                found.append(f"{where} is never asked: one before it ends the chain whatever it says")
            offered = {*settings.auth.mechanisms, "LOOKUP"}
            if passdb.mechanisms and offered.isdisjoint(
                filtered_mechanisms(passdb.mechanisms, settings.server.dialect)
            ):
                found.append(f"{where} is never asked: auth.mechanisms has none of its mechanisms")
            if passdb.skip == "unauthenticated" and not going_on and not any(map(_verifies, earlier)):
                found.append(f"{where} is never asked: nothing before it verifies a password and goes on")
    for index, userdb in enumerate(settings.userdbs):
        where = f"userdb {userdb.name or userdb.driver!r}"
        if any(_ends(one) for one in settings.userdbs[:index]):
            found.append(f"{where} is never asked: one before it ends the chain whatever it says")
        if userdb.skip != "never" and index == 0:
            found.append(f"{where} is asked in spite of its skip: nothing comes before it")
        lookups = any(listener.kind in ("master", "userdb") for listener in settings.listeners)
        if userdb.driver == "prefetch" and len(settings.userdbs) == 1 and lookups:
            found.append(f"{where} cannot answer who asks without a login (LMTP, doveadm): add a userdb behind it")
        asks = userdb.driver == "static" and not userdb.allow_all_users
        if asks and all(one.driver in TELLS_NO_PASSWORDS for one in settings.passdbs if not one.master):
            found.append(f"{where} cannot learn who exists, as no passdb tells: set allow_all_users or another passdb")
    return found


def _verifies(one: PassdbSettings) -> bool:
    """Whether the chain may go on behind *one* with the password counting as right."""
    return one.result_success in ("continue", "continue-ok") or "continue-ok" in (
        one.result_failure,
        one.result_internalfail,
    )


def _ends(one: PassdbSettings | UserdbSettings) -> bool:
    """Whether nothing behind it is ever asked. A script may always say NEXT, and a deny passdb lets others through."""
    if one.driver == "lua" or one.skip != "never" or (isinstance(one, PassdbSettings) and one.deny):
        return False
    rules = one.result_success, one.result_failure, one.result_internalfail
    return not any(rule.startswith("continue") for rule in rules)
