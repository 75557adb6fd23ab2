"""What holds for every template, whatever its grammar."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.dialect import Dialect
from authlua.variables import ExpansionError, compile_template

DIALECTS = [Dialect.V2_3, Dialect.V2_4_0, Dialect.V2_4]


class Table(dict[str, str | None]):
    """Variables from a plain table; the simplest there can be."""

    lookup = dict.__getitem__


VALUES = Table(
    {"user": "Joe@Example.org", "username": "Joe", "service": "imap", "session": None, "password": "hunter2"}
)

LITERALS = st.text(st.characters(blacklist_characters="%\0", blacklist_categories=["Cs"]))
WORDS = r"""%u %Lu %w %{ } %% % %5 %2.3 %N %{user} %{password} %{session} %{nosuch} %{if; ; : eq == * ~ \ ( ) [ { 1 -1
' " , = + - / | lower | upper | md5 | hex | default concat( substr( regexp( if( switch( truncate( hash( user 'a' 'eq'
'(.*)' '\\1' %{md5: %{sha1;rounds=2: %{sha256;truncate=9,format=base64: %{encrypt;key= %{pkcs5;rounds=1: :x ä .* a+
%{literal(' %{env: %{passdb:a:b} %{process:pid}"""
PIECES = st.sampled_from([*WORDS.split(), " ", "\n", "\udcff", "%{user | "])
TEMPLATES = st.lists(PIECES | LITERALS, max_size=12).map("".join)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(text=TEMPLATES)
def test_no_template_raises_anything_but_expansion_error(dialect: Dialect, text: str) -> None:
    """Whatever an admin or a script writes, there is one kind of failure."""
    try:
        result = compile_template(text, dialect).expand(VALUES)
    except ExpansionError as error:
        result = str(error)
        leaks = "hunter2" in result
    else:
        leaks = False
    assert isinstance(result, str)
    assert not leaks


@pytest.mark.parametrize("dialect", DIALECTS)
@given(text=TEMPLATES)
def test_expanding_twice_gives_the_same(dialect: Dialect, text: str) -> None:
    """A template keeps nothing of an expansion."""

    def outcome() -> str:
        try:
            return compile_template(text, dialect).expand(VALUES)
        except ExpansionError as error:
            return f"error: {error}"

    assert outcome() == outcome()


@pytest.mark.parametrize("dialect", DIALECTS)
@given(before=LITERALS, after=LITERALS)
def test_literal_text_survives(dialect: Dialect, before: str, after: str) -> None:
    """What is not a variable comes out as it went in."""
    assert compile_template(before + "%{user}" + after, dialect).expand(VALUES) == before + "Joe@Example.org" + after


@pytest.mark.parametrize("dialect", DIALECTS)
@given(value=st.binary().filter(lambda value: b"\0" not in value))
def test_any_bytes_of_a_value_survive(dialect: Dialect, value: bytes) -> None:
    """A value need not be UTF-8."""
    text = value.decode("utf-8", "surrogateescape")
    assert compile_template("<%{user}>", dialect).expand(Table(user=text)) == f"<{text}>"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_nul_ends_the_text(dialect: Dialect) -> None:
    """As it ends every string of Dovecot."""
    assert compile_template("a\0b", dialect).expand(VALUES) == "a"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_text_that_no_bytes_stand_for_is_refused(dialect: Dialect) -> None:
    """Half a surrogate pair cannot have come from anywhere."""
    with pytest.raises(ExpansionError, match="Invalid UTF-8 string"):
        compile_template("\ud800", dialect)


def test_a_template_is_compiled_once() -> None:
    """The same text in the same dialect is the same object."""
    assert compile_template("%{user}", Dialect.V2_3) is compile_template("%{user}", Dialect.V2_3)
    assert compile_template("%{user}", Dialect.V2_3) is not compile_template("%{user}", Dialect.V2_4)


@pytest.mark.parametrize(
    ("dialect", "text", "names"),
    [
        (Dialect.V2_3, "%u%n", ["user", "username"]),
        (Dialect.V2_3, "%Lu%5{user}%{user}%%x", ["user"]),
        (Dialect.V2_3, "%{if;%s;eq;imap;%{md5;salt=%r:user};%{passdb:a:b}}", ["service", "user", "rip", "passdb:a"]),
        (Dialect.V2_3, "%{env:HOME}%!", ["env:HOME", "!"]),
        (Dialect.V2_4, "%{user | lower}", ["user"]),
        (Dialect.V2_4, "%{user | default(session) | sha1(salt=password)}", ["user", "session", "password"]),
        (Dialect.V2_4, "%{local_port + remote_port}", ["local_port", "remote_port"]),
        (Dialect.V2_4, "%{literal('a')}%{if(user, 'eq', 'x', protocol, '')}", ["user", "protocol"]),
        (Dialect.V2_4, "%{lookup('user')}%{passdb:a}", ["user", "passdb:a"]),
        (Dialect.V2_4, "no variable", []),
    ],
)
def test_a_template_tells_its_variables(dialect: Dialect, text: str, names: list[str]) -> None:
    """A cache key is made of them: long names, each once."""
    assert sorted(names) == sorted(compile_template(text, dialect).variables)


def test_an_unknown_variable_of_2_3_is_an_error_only_where_that_is_asked_for() -> None:
    """A script's ``var_expand`` gets a text, ``default_fields`` a failure."""
    template = compile_template("%{nosuch:x}/%{user}", Dialect.V2_3)
    assert template.expand(VALUES) == "UNSUPPORTED_VARIABLE_nosuch/Joe@Example.org"
    with pytest.raises(ExpansionError, match=r"^Unknown variable '%nosuch'$"):
        template.expand(VALUES, strict=True)
    with pytest.raises(ExpansionError, match=r"^Unknown variable '%z'$"):
        compile_template("%z", Dialect.V2_3).expand(VALUES, strict=True)
    assert compile_template("%{user}", Dialect.V2_3).expand(VALUES, strict=True) == "Joe@Example.org"


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (Dialect.V2_3, "%{if;%w;==;1;a;b}"),
        (Dialect.V2_3, "%{if;1;==;%{password};a;b}"),
        (Dialect.V2_3, "%{if;1;%w;1;a;b}"),
        (Dialect.V2_4, "%{user | hash(password)}"),
        (Dialect.V2_4, "%{user | substr(password)}"),
        (Dialect.V2_4, "%{lookup(password)}"),
        (Dialect.V2_4, "%{if(password, '==', 1, 'a', 'b')}"),
        (Dialect.V2_4, "%{user | if(password, 'x', 'a', 'b')}"),
        (Dialect.V2_4, "%{user | encrypt(key='x', algorithm=password)}"),
        (Dialect.V2_4, "%{user | encrypt(key='x', hash=password)}"),
        (Dialect.V2_4, "%{password | epoch}"),
        (Dialect.V2_4, "%{literal('1') | date('%Y', password)}"),
    ],
)
def test_an_error_never_quotes_the_password(dialect: Dialect, text: str) -> None:
    """Errors are logged; a template that uses the password says only that something is wrong."""
    with pytest.raises(ExpansionError) as caught:
        compile_template(text, dialect).expand(VALUES)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "text", ["%{if;a;eq;a;" * 40 + "x" + "}" * 40, "%{" + "md5:" * 40 + "user}", "%{encrypt;key=" * 40 + "}" * 40]
)
def test_nesting_has_an_end(text: str) -> None:
    """No template can exhaust the stack."""
    with pytest.raises(ExpansionError, match="nested too deeply"):
        compile_template(text, Dialect.V2_3).expand(VALUES)


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (Dialect.V2_3, "%02000000000u"),
        (Dialect.V2_4, "%{user | lfill(2000000000)}"),
        (Dialect.V2_4, "%{literal(5) | hex(-99999999)}"),
    ],
)
def test_padding_has_an_end(dialect: Dialect, text: str) -> None:
    """Nor the memory."""
    with pytest.raises(ExpansionError, match="Excessive padding"):
        compile_template(text, dialect).expand(VALUES)


def test_a_template_longer_than_dovecot_allows_is_refused() -> None:
    """8192 bytes in 2.4, no limit in 2.3."""
    assert len(compile_template("x" * 8193, Dialect.V2_3).expand(VALUES)) == 8193
    assert len(compile_template("x" * 8192, Dialect.V2_4).expand(VALUES)) == 8192
    with pytest.raises(ExpansionError, match="Program size exceeds maximum of 8192 bytes"):
        compile_template("x" * 8193, Dialect.V2_4)


def test_a_syntax_error_of_2_4_shows_when_compiling() -> None:
    """So a configuration is refused before anybody logs in."""
    with pytest.raises(ExpansionError, match=r"^syntax error, unexpected end of file, expecting CCBRACE or PIPE$"):
        compile_template("%{user", Dialect.V2_4)


def test_variables_may_be_any_object_with_a_lookup() -> None:
    """The room asks for no more than that."""

    class Counted:
        asked = 0

        def __init__(self, values: Mapping[str, str]) -> None:
            self.values = values

        def lookup(self, name: str) -> str | None:
            self.asked += 1
            return self.values[name]

    counted = Counted({"user": "joe", "service": "imap"})
    assert compile_template("%u %s %u", Dialect.V2_3).expand(counted) == "joe imap joe"
    assert counted.asked == 3
