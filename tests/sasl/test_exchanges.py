"""Every exchange that was recorded with a Dovecot goes the same way with authlua, line by line.

``tests/vectors/sasl-exchanges.json`` tells in itself how it was recorded. What was chance then is given back to us.
"""

import re
from binascii import a2b_base64
from collections.abc import Mapping
from typing import Any

import pytest

from tests.sasl.recorded import VECTORS, Server, challenges

_EXPLAINED = (
    "FAIL\t1\tuser=oscar\tresp=eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NvcGUiOiJtYWlsIiwib3BlbmlkLWNvbmZpZ3VyYXRpb24iOiJo"
    "dHRwczovL2V4YW1wbGUuY29tLy53ZWxsLWtub3duL29wZW5pZC1jb25maWd1cmF0aW9uIn0="
)
DIFFERENCES = {
    # from 2.3.21 on, a stored password that cannot be read is a temporary failure
    "2.3.19.1/plain/field-bad-hash": "FAIL\t1\tuser=olga\tcode=temp_fail",
    # from 2.4.2 on, the client is told why the token of another user is refused
    "2.4.1/jwt/oauthbearer/other-user-final": _EXPLAINED,
    "2.4.1/jwt/oauthbearer/user-case-final": _EXPLAINED,
}
"""Exchanges that end in another line, where Dovecot has changed since it was recorded."""

_HIDDEN_FIELDS = re.compile(r"^((?:OK|FAIL)\t1\tuser=\w+)\t(?=\t|$)")
"""The tab that 2.3 leaves where all fields of a reply are hidden; authlua does not (``docs/differences.md``)."""


def expected(exchange: Mapping[str, Any], line: str) -> str:
    """What authlua is to say where the recorded server said *line*."""
    return DIFFERENCES.get(exchange["id"], _HIDDEN_FIELDS.sub(r"\1", line))


def pinned(exchange: Mapping[str, Any]) -> tuple[dict[int, bytes], float, dict[int, bytes]]:
    """The chance in *exchange*: bytes by how many are asked for, the time, and the same for new salts and seeds."""
    chance: dict[int, bytes] = {}
    salts: dict[int, bytes] = {}
    now = 1795331651.0
    for challenge in challenges(exchange):
        text = challenge.decode()
        if cram := re.fullmatch(r"<(\d{16})\.(\d+)@vm>", text):
            chance[16], now = bytes(int(digit) for digit in cram[1]), float(cram[2])
        elif digest := re.search(r'nonce="([^"]*)"', text):
            chance[16] = a2b_base64(digest[1])
        elif scram := re.fullmatch(r"r=rOprNGfwEbeRWgbNEkqO(.{64}),s=(.*),i=4096", text):
            chance[64] = bytes(11 if letter == "~" else ord(letter) - 33 for letter in scram[1])
            salts[16] = a2b_base64(scram[2])
        elif otp := re.fullmatch(r"otp-sha1 1023 ([0-9a-f]{16}) ext", text):
            salts[8] = bytes.fromhex(otp[1])
    return chance, now, salts


@pytest.fixture(scope="module")
def servers() -> dict[str, Server]:
    """The recorded servers; OTP logins change what one of them knows."""
    return {name: Server(name) for name in VECTORS["configs"]}


@pytest.mark.parametrize("exchange", [pytest.param(one, id=one["id"]) for one in VECTORS["exchanges"]])
def test_an_exchange_goes_as_it_went_with_dovecot(
    exchange: Mapping[str, Any], servers: Mapping[str, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of the server is the recorded one, to the byte."""
    server = servers[exchange["config"]]
    chance, now, salts = pinned(exchange)
    derived = exchange.get("derived", {})
    spid, cuid = int(derived.get("SPID", 1)), int(derived.get("CUID", 1))
    server.auth.terms = server.auth.terms._replace(
        random=chance.__getitem__, clock=lambda: now, hostname="vm", pid=spid, started=1795331000.0
    )
    monkeypatch.setattr("authlua.passwords.scram.urandom", salts.__getitem__)
    monkeypatch.setattr("authlua.passwords.otp.urandom", salts.__getitem__)
    user = "otpmd5" if "md5" in exchange["id"] or "authzid" in exchange["id"] else "otpsha"
    if exchange.get("stored_before"):
        server.table.users[user] = [("password", exchange["stored_before"])]

    minor = 1 if exchange["id"].endswith("-minor1") else exchange.get("protocol_minor", 2)
    connection = server.connect(minor=minor, spid=spid, cuid=cuid)
    said: list[str] = []
    for step in exchange["transcript"]:
        if "C" in step:
            assert said == [], "an answer that nobody recorded"
            said = connection.say(step["C"])
        elif "S" in step:
            assert expected(exchange, step["S"]) == said.pop(0)
    assert said == []
    if exchange.get("stored_after"):
        assert server.table.users[user] == [("password", exchange["stored_after"])]


@pytest.mark.parametrize("name", VECTORS["handshakes"])
def test_a_handshake_names_the_mechanisms_as_dovecot_names_them(name: str, servers: Mapping[str, Server]) -> None:
    """Each MECH line has the flags of Dovecot's, in their order, and stands at the same place."""
    config, _, version = name.partition(" (client VERSION 1 ")
    lines = servers[config].connect(minor=int(version[:1] or 2)).handshake
    expected = [line for line in VECTORS["handshakes"][name] if not line.endswith(">")]
    assert expected == [line for line in lines if not line.startswith(("SPID", "CUID", "COOKIE"))]


def test_every_recorded_exchange_is_replayed() -> None:
    """A vector file cut short would make the tests above pass for the wrong reason."""
    assert len(VECTORS["exchanges"]) == 447
    assert set(DIFFERENCES) <= {exchange["id"] for exchange in VECTORS["exchanges"]}
