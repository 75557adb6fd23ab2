"""Dovecot's configuration, as ``doveconf -n`` prints it, becomes an ``authlua.toml``.

`parsing` knows the text; `series_2_3` and `series_2_4` know how each writes passdbs and userdbs; from there on it is
the same `drivers`, `listeners` and settings (`reading`) for both. `site` holds what comes of it, `output` writes it.
"""

from authlua.doveconf.output import describe, toml_of
from authlua.doveconf.reading import read_site
from authlua.doveconf.site import Left, Site

__all__ = ["Left", "Site", "describe", "read_site", "toml_of"]
