"""GSS-SPNEGO: by Kerberos, or with winbind by whatever Samba's helper can do."""

from authlua.sasl.gssapi import gssapi
from authlua.sasl.winbind import spnego
from authlua.sasl.wishes import Mech, MechInfo, Terms
from authlua.secret import Secret


def gss_spnego(initial: Secret | None, terms: Terms) -> Mech:
    """Dovecot's ``auth_use_winbind`` chooses."""
    return spnego(initial, terms) if terms.use_winbind else gssapi(initial, terms)


GSS_SPNEGO = MechInfo("GSS-SPNEGO", gss_spnego, allow_nul=True)
