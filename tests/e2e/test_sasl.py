"""Clients of other makers log in by every mechanism: GNU SASL's, and those of Python's own library."""

import contextlib
import datetime
import hashlib
import imaplib
import poplib
import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import LoginError

from tests.e2e import dovecot
from tests.e2e.programs import PATIENCE, Scene
from tests.e2e.stack import DOMAIN, PASSWORD, Stack, running_stack

ALICE = f"alice@{DOMAIN}"
CERTIFIED = f"certified@{DOMAIN}"
COMMON = ["plain", "login", "cram-md5", "digest-md5", "scram-sha-1", "scram-sha-256", "external", "apop", "otp"]
MECHS = {
    "2.3": [*COMMON, "oauthbearer", "xoauth2"],
    "2.4": [*COMMON, "scram-sha-1-plus", "scram-sha-256-plus", "oauthbearer", "xoauth2"],
}
ONLY_HERE = {"2.3": ["otp"], "2.4": ["otp", "oauthbearer", "xoauth2"]}
"""What a Dovecot of that series does not do with a script."""
TLS = {
    "2.3": """
ssl = yes
ssl_cert = <{directory}/server.pem
ssl_key = <{directory}/server.pem
ssl_ca = <{directory}/ca.pem
ssl_verify_client_cert = yes
ssl_cert_username_field = commonName
ssl_require_crl = no
auth_ssl_username_from_cert = yes
""",
    "2.4": """
ssl = yes
ssl_server_cert_file = {directory}/server.pem
ssl_server_key_file = {directory}/server.pem
ssl_server_ca_file = {directory}/ca.pem
ssl_server_request_client_cert = yes
ssl_server_cert_username_field = commonName
ssl_server_require_crl = no
auth_ssl_username_from_cert = yes
""",
}


def make_certificates(directory: Path) -> None:
    """A CA, a server's certificate, and one of a client who has a user's name."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    authority = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA of the tests")])
    names = {"ca": "CA of the tests", "server": "127.0.0.1", "client": CERTIFIED}
    for file, name in names.items():
        key = authority if file == "ca" else ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=file == "ca", path_length=None), critical=True)
            .sign(authority, hashes.SHA256())
        )
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        (directory / f"{file}.pem").write_bytes(pem if file == "ca" else pem + secret)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((version, layout), id=f"{version}-{layout}", marks=mark)
        for version, mark in {"2.3": pytest.mark.dovecot, "2.4": pytest.mark.dovecot24}.items()
        for layout in ("native", "E")
    ],
)
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A Dovecot with TLS and all mechanisms; *native* keeps what the tests expect honest."""
    version, layout = request.param
    if reason := dovecot.missing(version) or missing():
        pytest.skip(reason)
    with Scene.open() as scene:
        make_certificates(scene.directory)
        offered = [mech for mech in MECHS[version] if layout != "native" or mech not in ONLY_HERE[version]]
        extra = TLS[version].format(directory=scene.directory) + f"auth_mechanisms = {' '.join(offered)}\n"
        auth = f"mechanisms = {MECHS[version]!r}\nssl_username_from_cert = true"
        with running_stack(version, layout, scene, extra=extra, auth=auth) as stack:
            yield stack


def missing() -> str | None:
    """Why GNU SASL's client cannot be run."""
    return None if shutil.which("gsasl") else "missing: gsasl; tests/e2e/install-clients installs it"


def gsasl(stack: Stack, mech: str, *options: str, password: str = PASSWORD) -> bool:
    """Whether GNU SASL's client gets in over IMAP; it checks what the server proves, too."""
    done = subprocess.run(
        ["gsasl", "--imap", f"--connect=127.0.0.1:{stack.dovecot.imap}", "-m", mech, "-p", password, *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )
    return done.returncode == 0 and b"Client authentication finished" in done.stdout + done.stderr


@pytest.mark.parametrize("mech", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_gnu_sasl_logs_in(stack: Stack, mech: str) -> None:
    """With the right password, and only with that."""
    user = ("--no-starttls", "-a", ALICE)
    assert (gsasl(stack, mech, *user), gsasl(stack, mech, *user, password="wrong")) == (True, False)


def test_gnu_sasl_logs_in_with_digest_md5(stack: Stack) -> None:
    """The realm is the user's domain."""
    user = ("--no-starttls", "-a", "alice", "-r", DOMAIN, "-z", ALICE, "--quality-of-protection=qop-auth")
    assert (gsasl(stack, "DIGEST-MD5", *user), gsasl(stack, "DIGEST-MD5", *user, password="wrong")) == (True, False)


@pytest.mark.parametrize("mech", ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"])
def test_gnu_sasl_binds_its_login_to_the_channel(stack: Stack, mech: str) -> None:
    """The login process tells what the TLS channel is; a client on another channel would not get in."""
    if stack.version == "2.3":
        pytest.skip("2.3 knows no channel binding")
    user = ("--starttls", "--x509-ca-file=", "-a", ALICE)
    assert (gsasl(stack, mech, *user), gsasl(stack, mech, *user, password="wrong")) == (True, False)


def test_a_certificate_is_enough_for_external(stack: Stack) -> None:
    """Who the certificate names gets in, whoever they say they are; without one nobody does."""
    client = stack.scene.directory / "client.pem"
    tls = ("--starttls", "--x509-ca-file=")
    certificate = (f"--x509-cert-file={client}", f"--x509-key-file={client}")
    assert gsasl(stack, "EXTERNAL", *tls, *certificate, "-z", "")
    assert not gsasl(stack, "EXTERNAL", *tls, "-z", "")


@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
def test_python_logs_in_with_cram_md5_and_apop(stack: Stack, password: str) -> None:
    """imaplib, smtplib and poplib."""

    def right(error: type[Exception]) -> AbstractContextManager[object]:
        return contextlib.nullcontext() if password == PASSWORD else pytest.raises(error)

    with imaplib.IMAP4("127.0.0.1", stack.dovecot.imap, timeout=PATIENCE) as imap, right(imaplib.IMAP4.error):
        imap.login_cram_md5(ALICE, password)
    refusal = smtplib.SMTPAuthenticationError
    with smtplib.SMTP("127.0.0.1", stack.dovecot.submission, timeout=PATIENCE) as smtp, right(refusal):
        smtp.ehlo()
        smtp.user, smtp.password = ALICE, password
        smtp.auth("CRAM-MD5", smtp.auth_cram_md5)
    with right(poplib.error_proto):
        pop3 = poplib.POP3("127.0.0.1", stack.dovecot.pop3, timeout=PATIENCE)
        try:
            pop3.apop(ALICE, password)
        finally:
            pop3.close()


@pytest.mark.parametrize("login", ["oauthbearer_login", "oauth2_login"])
def test_a_token_from_a_client_that_knows_these_mechs(stack: Stack, login: str) -> None:
    """IMAPClient's OAUTHBEARER and XOAUTH2; its own words, and its own way to give up."""
    if (stack.version, stack.layout) == ("2.4", "native"):
        pytest.skip("Dovecot 2.4 judges tokens by its own settings, never by a script")
    for token, lets_in in (PASSWORD, True), ("wrong", False):
        client = IMAPClient("127.0.0.1", stack.dovecot.imap, ssl=False, timeout=PATIENCE)
        if lets_in:
            getattr(client, login)(ALICE, token)
            assert client.folder_exists("INBOX")
            client.logout()
        else:
            with pytest.raises(LoginError):
                getattr(client, login)(ALICE, token)
            client.shutdown()


@pytest.mark.parametrize(
    ("mech", "message", "refusal"),
    [
        ("OAUTHBEARER", "n,a={user},\1host=localhost\1auth=Bearer {token}\1\1", b'{"status":"invalid_token"'),
        ("XOAUTH2", "user={user}\1auth=Bearer {token}\1\1", b'"status":"401"'),
    ],
)
def test_a_token_stands_for_the_password(stack: Stack, mech: str, message: str, refusal: bytes) -> None:
    """The script judges it; who is refused is told why, and answers before it is over."""
    if (stack.version, stack.layout) == ("2.4", "native"):
        pytest.skip("Dovecot 2.4 judges tokens by its own settings, never by a script")
    challenges: list[bytes] = []

    def answer(challenge: bytes) -> bytes:
        challenges.append(challenge)
        return b"" if len(challenges) > 1 else message.format(user=ALICE, token=token).encode()

    token = PASSWORD
    with imaplib.IMAP4("127.0.0.1", stack.dovecot.imap, timeout=PATIENCE) as client:
        assert client.authenticate(mech, answer)[0] == "OK"
    token, challenges = "wrong", []
    with (
        imaplib.IMAP4("127.0.0.1", stack.dovecot.imap, timeout=PATIENCE) as client,
        pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"),
    ):
        client.authenticate(mech, answer)
    assert refusal in challenges[1]


def test_a_one_time_password_is_good_once(stack: Stack) -> None:
    """Each login stores what the next one is to be compared with; what was used is refused from then on."""
    if stack.layout == "native":
        pytest.skip("Dovecot's scripts cannot store passwords")
    secret, seed = b"This is a test.", b"ke1234"

    def password(sequence: int) -> bytes:
        """RFC 2289 with MD5, in the words of its section 6."""
        value = seed + secret
        for _ in range(sequence + 1):
            digest = hashlib.md5(value).digest()
            value = bytes(a ^ b for a, b in zip(digest[:8], digest[8:], strict=True))
        return value

    stored = stack.scene.directory / "otp"
    stored.write_text(f"{{OTP}}md5 100 ke1234 {password(100).hex()}")
    stored.chmod(0o666)  # the script has the rights of server.user
    challenges: list[bytes] = []

    def log_in(sequence: int) -> bool:
        def answer(challenge: bytes) -> bytes:
            if not challenge:
                return b"\0" + ALICE.encode()
            challenges.append(challenge)
            return b"hex:" + password(sequence).hex().encode()

        with imaplib.IMAP4("127.0.0.1", stack.dovecot.imap, timeout=PATIENCE) as client:
            try:
                return client.authenticate("OTP", answer)[0] == "OK"
            except imaplib.IMAP4.error:
                return False

    assert [log_in(sequence) for sequence in (99, 99, 97, 98)] == [True, False, False, True]
    assert challenges == [f"otp-md5 {sequence} ke1234 ext".encode() for sequence in (99, 98, 98, 98)]
