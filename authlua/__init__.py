"""authlua: the authentication server that mail administrators script in Lua."""

__version__ = "0.1.0"
