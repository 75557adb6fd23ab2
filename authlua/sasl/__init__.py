"""SASL mechanisms: one generator each, and the registry of them."""

from collections.abc import Mapping

from authlua.sasl.anonymous import ANONYMOUS
from authlua.sasl.apop import APOP
from authlua.sasl.cram_md5 import CRAM_MD5
from authlua.sasl.digest_md5 import DIGEST_MD5
from authlua.sasl.dovecot_token import DOVECOT_TOKEN
from authlua.sasl.external import EXTERNAL
from authlua.sasl.gss_spnego import GSS_SPNEGO
from authlua.sasl.gssapi import GSSAPI
from authlua.sasl.login import LOGIN
from authlua.sasl.oauth2 import OAUTHBEARER, XOAUTH2
from authlua.sasl.otp import OTP
from authlua.sasl.plain import PLAIN
from authlua.sasl.scram import SCRAM_SHA_1, SCRAM_SHA_1_PLUS, SCRAM_SHA_256, SCRAM_SHA_256_PLUS
from authlua.sasl.winbind import NTLM
from authlua.sasl.wishes import (
    Challenge,
    ChannelBinding,
    CheckToken,
    Connection,
    LookupCredentials,
    Mech,
    MechInfo,
    MechWish,
    Offload,
    PassdbField,
    Refused,
    Service,
    SetAnonymous,
    SetCertificateUser,
    SetCredentials,
    SetRealm,
    SetUser,
    Succeeded,
    Terms,
    Verdict,
    VerifyPlain,
)

MECHS: Mapping[str, MechInfo] = {
    mech.name: mech
    for mech in (
        PLAIN,
        LOGIN,
        CRAM_MD5,
        DIGEST_MD5,
        SCRAM_SHA_1,
        SCRAM_SHA_256,
        SCRAM_SHA_1_PLUS,
        SCRAM_SHA_256_PLUS,
        EXTERNAL,
        ANONYMOUS,
        OAUTHBEARER,
        XOAUTH2,
        APOP,
        OTP,
        GSSAPI,
        GSS_SPNEGO,
        NTLM,
    )
}
"""Every mech that the configuration may choose, by its upper-case name."""

__all__ = [
    "DOVECOT_TOKEN",
    "MECHS",
    "Challenge",
    "ChannelBinding",
    "CheckToken",
    "Connection",
    "LookupCredentials",
    "Mech",
    "MechInfo",
    "MechWish",
    "Offload",
    "PassdbField",
    "Refused",
    "Service",
    "SetAnonymous",
    "SetCertificateUser",
    "SetCredentials",
    "SetRealm",
    "SetUser",
    "Succeeded",
    "Terms",
    "Verdict",
    "VerifyPlain",
]
