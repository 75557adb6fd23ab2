"""Maildir++ read where it lies: Dovecot's ``dovecot-uidlist`` and ``dovecot-keywords``, and the names of the files.

Nothing is moved, numbered or marked. A mail that Dovecot has not seen yet gets the UID that Dovecot would give it now.
What only Dovecot's index knows is documented as unknown: mod-sequences, keywords no mail has any more, and
``\\Recent`` taken away by an earlier session. The one thing written is a mailbox that a script asks to be made.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from authlua.mail import names
from authlua.mail.attributes import AttributeFile, keep_owner
from authlua.mail.storage import ALL_FLAGS, SEEN, BoxFlag, Item, Mail, Status, StorageError

_LETTERS = {"R": 1, "F": 2, "T": 4, "S": 8, "D": 16}
_SCANS = 3
_SIZE = re.compile(r",S=(\d{1,18})(?:,|$)")

P = ParamSpec("P")
T = TypeVar("T")


def _on_disk(function: Callable[P, T]) -> Callable[P, T]:
    """*function*, of which whatever the disk refuses is a `StorageError`."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            raise StorageError(f"{error.filename or 'Maildir'}: {error.strerror}") from error

    return call


class _File(NamedTuple):
    uid: int
    base: str
    directory: str
    name: str
    flags: int
    letters: str


class UidList(NamedTuple):
    """What ``dovecot-uidlist`` says (``core:2.3.21.1:src/lib-storage/index/maildir/maildir-uidlist.c``)."""

    uidvalidity: int = 0
    """0 when there is no list yet, so that nobody has chosen one."""
    uidnext: int = 1
    guid: str = ""
    uids: Mapping[str, int] = {}
    """By base name: the file's name up to its first colon."""


def read_uidlist(path: Path) -> UidList:
    """The list at *path*; an empty one when there is none."""
    try:
        lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except FileNotFoundError:
        return UidList()
    version, *fields = lines[0].split(" ")
    if version == "1" and len(fields) == 2:
        header = {"V": fields[0], "N": fields[1]}
    elif version == "3":
        header = {field[:1]: field[1:] for field in fields if field}
    else:
        raise StorageError(f"{path}: expected a dovecot-uidlist of version 1 or 3, got {lines[0][:40]!r}")
    uids = {}
    last = 0
    for line in lines[1:]:
        number, space, rest = line.partition(" ")
        if not space or not number.isdecimal():
            continue
        name = rest if version == "1" else rest.partition(":")[2]
        last = int(number)
        uids[name.partition(":")[0]] = last
    # lines are appended without a new header, so its number may be behind
    uidnext = max(int(header.get("N", "1")), last + 1)
    return UidList(int(header.get("V", "0")), uidnext, header.get("G", ""), uids)


class _View(NamedTuple):
    """A mailbox at one moment."""

    files: Sequence[_File]
    uidvalidity: int
    uidnext: int
    first_recent_uid: int
    guid: str


class Maildir:
    """The mailboxes of one user below the directory *root*.

    Args:
        attributes: the file with the metadata; `None` as without Dovecot's ``mail_attribute_dict``.
        separator: the one of Dovecot's namespace.
    """

    def __init__(self, root: Path, *, attributes: Path | None = None, separator: str = "/") -> None:
        self._root = root
        self._attributes = None if attributes is None else AttributeFile(attributes)
        self.separator = separator
        self._dropped: dict[str, int] = {}  # mailbox → first UID that is still \Recent for us

    def storage_name(self, vname: str) -> str:
        """The directory's name, without the leading dot."""
        return names.to_utf7(vname).replace(self.separator, ".")

    def check_name(self, vname: str) -> None:
        """Raise `StorageError` when no mailbox can have this name."""
        names.check(vname, self.separator, ".")

    @_on_disk
    def open(self, vname: str, flags: int) -> "MaildirBox":
        """Open a mailbox, made first if *flags* ask for it."""
        self.check_name(vname)
        path = self._path(vname)
        if not path.is_dir():
            if flags & BoxFlag.AUTO_CREATE:
                self._create(vname, path, flags)
            elif vname != "INBOX":  # which everybody has, be it empty
                raise StorageError(f"Mailbox doesn't exist: {vname}")
        return MaildirBox(self, vname, path, flags)

    def mailboxes(self) -> Iterator[str]:
        """The visible names of all mailboxes, INBOX first, the others in order."""
        yield "INBOX"
        try:
            entries = sorted(entry.name for entry in os.scandir(self._root) if entry.name.startswith("."))
        except FileNotFoundError:
            return
        for name in entries:
            if name.strip(".") and ".." not in name and (self._root / name / "cur").is_dir():
                try:
                    vname = names.from_utf7(name[1:]).replace(".", self.separator)
                    self.check_name(vname)
                except (ValueError, StorageError):
                    continue  # nobody can name it, so nobody can ask for it
                yield vname

    def close(self) -> None:
        """Nothing is kept open."""

    # -- for MaildirBox

    def attributes(self) -> AttributeFile:
        """The metadata; raises `StorageError` when there is none."""
        if self._attributes is None:
            raise StorageError("Mailbox attributes not enabled")
        return self._attributes

    def drop_recent(self, vname: str, uid: int) -> None:
        """No mail below *uid* is ``\\Recent`` any more, as far as this session goes."""
        self._dropped[vname] = uid

    def first_recent(self, vname: str) -> int:
        """The lowest UID that may still be ``\\Recent``."""
        return self._dropped.get(vname, 1)

    # -- directories

    def _path(self, vname: str) -> Path:
        return self._root if vname == "INBOX" else self._root / ("." + self.storage_name(vname))

    def _create(self, vname: str, path: Path, flags: int) -> None:
        """As ``core:2.3.21.1:src/lib-storage/index/maildir/maildir-storage.c:maildir_mailbox_create``."""
        try:
            for folder in (self._root, path, path / "cur", path / "new", path / "tmp"):
                _make_folder(folder)
            if vname != "INBOX":
                _make_file(path / "maildirfolder", "")
            guid = os.urandom(16).hex()
            _make_file(path / "dovecot-uidlist", f"3 V{int(time.time())} N1 G{guid}\n")
        except FileExistsError:
            return  # Dovecot was quicker
        if flags & BoxFlag.AUTO_SUBSCRIBE:
            self._subscribe(vname)

    def _subscribe(self, vname: str) -> None:
        path = self._root / "subscriptions"
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:
            lines = ["V\t2", ""]
        parts = self.storage_name(vname).split(".")
        line = "\t".join(parts) if lines[:1] == ["V\t2"] else ".".join(parts)
        if line not in lines:
            fresh = path.with_name("subscriptions.authlua")
            fresh.unlink(missing_ok=True)  # of a process that was killed
            _make_file(fresh, "".join(f"{one}\n" for one in [*lines, line]))
            os.replace(fresh, path)


def _make_folder(path: Path) -> None:
    """Make *path* unless it is there; it belongs to whoever owns the folder it is in."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        keep_owner(folder, path.parent / "none")
    finally:
        os.close(folder)


def _make_file(path: Path, text: str) -> None:
    """Make a new file, never through a link; it belongs to whoever owns the folder it is in."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        keep_owner(file.fileno(), path.parent / "none")
        file.write(text)


class MaildirBox:
    """One open mailbox: the view of the last sync."""

    def __init__(self, storage: Maildir, vname: str, path: Path, flags: int) -> None:
        self._storage = storage
        self._vname = vname
        self._path = path
        self._flags = flags
        self._recent_from: int | None = None
        self._synced: _View | None = None

    @property
    def _view(self) -> _View:
        """What was there at the last sync, or when it was first asked for."""
        if self._synced is None:
            self._synced = self._look()
        return self._synced

    @_on_disk
    def sync(self, flags: int) -> None:
        """Look at the directories again; with DROP_RECENT, take ``\\Recent`` away from those who come later."""
        view = self._look()
        if self._flags & BoxFlag.DROP_RECENT:
            if self._recent_from is None:
                self._recent_from = view.first_recent_uid
            self._storage.drop_recent(self._vname, view.uidnext)
            view = view._replace(first_recent_uid=view.uidnext)
        self._synced = view

    @_on_disk
    def status(self, items: int) -> Status:
        """All there is to know without an index."""
        view = self._view
        unseen = [seq for seq, file in enumerate(view.files, 1) if not file.flags & SEEN]
        recent_from = view.first_recent_uid if self._recent_from is None else self._recent_from
        writable = not self._flags & BoxFlag.READONLY
        return Status(
            messages=len(view.files),
            recent=sum(file.uid >= recent_from for file in view.files),
            uidvalidity=view.uidvalidity,
            uidnext=view.uidnext,
            unseen=len(unseen),
            first_unseen_seq=unseen[0] if unseen else 0,
            first_recent_uid=view.first_recent_uid,
            highest_modseq=1,
            permanent_flags=ALL_FLAGS if writable else 0,
            flags=ALL_FLAGS,
            nonpermanent_modseqs=bool(self._flags & BoxFlag.NO_INDEX_FILES),
            no_modseq_tracking=True,
            permanent_keywords=writable,
            allow_new_keywords=writable,
            keywords=self._keywords() if items & Item.KEYWORDS else (),
        )

    def mails(self) -> Iterator[Mail]:
        """All mails in the order of their UIDs."""
        known = self._keyword_names()
        for seq, file in enumerate(self._view.files, 1):
            try:
                state = self._stat(file)
            except FileNotFoundError:
                continue  # expunged meanwhile
            except OSError as error:
                raise StorageError(f"{error.filename}: {error.strerror}") from error
            keywords = [_keyword(known, letter) for letter in file.letters]
            yield Mail(seq, file.uid, file.flags, keywords, _size(file, state), int(state.st_mtime))

    def header(self, uid: int) -> bytes:
        """The header of the mail *uid*, with its line ends as they are on disk."""
        file = next((file for file in self._view.files if file.uid == uid), None)
        if file is None:
            raise StorageError(f"Mailbox {self._vname} has no mail with UID {uid}")
        lines = []
        try:
            with self._find(file).open("rb") as stream:
                for line in stream:
                    if not line.strip(b"\r\n"):
                        break
                    lines.append(line)
        except FileNotFoundError:
            raise StorageError("Message was expunged") from None
        except OSError as error:
            raise StorageError(f"{error.filename}: {error.strerror}") from error
        return b"".join(lines)

    @_on_disk
    def attribute(self, key: str) -> bytes | None:
        """The metadata value under *key*."""
        return self._storage.attributes().get(self._guid(), key)

    @_on_disk
    def set_attribute(self, key: str, value: bytes | None) -> None:
        """Set or delete a metadata value."""
        self._storage.attributes().set(self._guid(), key, value)

    @_on_disk
    def attributes(self, prefix: str) -> Mapping[str, bytes]:
        """All metadata at or below *prefix*."""
        return self._storage.attributes().below(self._guid(), prefix)

    def close(self) -> None:
        """Nothing is kept open."""

    def _guid(self) -> str:
        if not self._view.guid:
            raise StorageError(f"Mailbox {self._vname} has no GUID yet: Dovecot has never opened it")
        return self._view.guid

    # -- looking

    @_on_disk
    def _look(self) -> _View:
        """Read the directories, again if they change meanwhile: a file that is renamed can be missed."""
        for _ in range(_SCANS):
            before = self._changed()
            view = self._scan()
            if self._changed() == before:
                break
        return view

    def _changed(self) -> Sequence[int]:
        stamps = []
        for directory in ("new", "cur"):
            try:
                stamps.append((self._path / directory).stat().st_mtime_ns)
            except FileNotFoundError:
                stamps.append(0)
        return stamps

    def _scan(self) -> _View:
        uidlist = read_uidlist(self._path / "dovecot-uidlist")
        found: dict[str, tuple[str, str]] = {}
        for directory in ("new", "cur"):
            try:
                entries = os.listdir(self._path / directory)
            except FileNotFoundError:
                continue
            for name in entries:
                if not name.startswith("."):
                    found[name.partition(":")[0]] = (directory, name)
        uids = uidlist.uids
        known = sorted((uids[base], base) for base in found if base in uids)
        fresh = sorted(base for base in found if base not in uids)
        uidnext = uidlist.uidnext
        first_recent = 1
        files = []
        for uid, base in known:
            if found[base][0] == "cur":
                first_recent = uid + 1
            files.append(_file(uid, base, *found[base]))
        for uid, base in enumerate(fresh, uidnext):
            files.append(_file(uid, base, *found[base]))
        first_recent = max(first_recent, self._storage.first_recent(self._vname))
        return _View(files, uidlist.uidvalidity, uidnext + len(fresh), first_recent, uidlist.guid)

    def _stat(self, file: _File) -> os.stat_result:
        try:
            return os.stat(self._path / file.directory / file.name)
        except FileNotFoundError:
            return self._find(file).stat()

    def _find(self, file: _File) -> Path:
        """The mail's file, which may have new flags in its name by now."""
        path = self._path / file.directory / file.name
        if path.exists():
            return path
        for directory in ("cur", "new"):
            for name in os.listdir(self._path / directory):
                if name.partition(":")[0] == file.base:
                    return self._path / directory / name
        raise FileNotFoundError(path)

    # -- keywords

    @_on_disk
    def _keyword_names(self) -> Mapping[str, str]:
        """Letter → keyword (``core:2.3.21.1:src/lib-storage/index/maildir/maildir-keywords.c``)."""
        try:
            text = (self._path / "dovecot-keywords").read_text("utf-8", "surrogateescape")
        except FileNotFoundError:
            return {}
        found = {}
        for line in text.splitlines():
            number, _, name = line.partition(" ")
            if number.isdecimal() and int(number) < 26 and name:
                found[chr(ord("a") + int(number))] = name
        return found

    def _keywords(self) -> Sequence[str]:
        """Those that a mail has, in the order in which an index would meet them."""
        known = self._keyword_names()
        letters = dict.fromkeys(letter for file in self._view.files for letter in file.letters)
        return [_keyword(known, letter) for letter in letters]


def _size(file: _File, state: os.stat_result) -> int:
    """The mail's size as its name tells, since what is on disk may be compressed; else the file's."""
    match = _SIZE.search(file.base)
    return state.st_size if match is None else int(match[1])


def _keyword(known: Mapping[str, str], letter: str) -> str:
    """The keyword of *letter*; one that nobody has named is called by its number, as Dovecot does."""
    return known.get(letter) or f"unknown-{ord(letter) - ord('a')}"


def _file(uid: int, base: str, directory: str, name: str) -> _File:
    info = name.partition(":2,")[2]
    flags = 0
    for letter in info:
        flags |= _LETTERS.get(letter, 0)
    letters = "".join(sorted(letter for letter in info if "a" <= letter <= "z"))
    return _File(uid, base, directory, name, flags, letters)
