"""Small auth servers of our own, each with one defect that independent implementations of the protocol have had.

Run as ``python models.py DEFECT DIRECTORY``: serves DIRECTORY/client with the kit's users, as much of 2.3 as a client
socket needs. The defects are those that test_models.py names; ``none`` is none.
"""

import base64
import socket
import sys
import threading
import time
from pathlib import Path

DELAY = 0.3


def escape(value: str, defect: str) -> str:
    """*value* as it stands in a field; with other letters when that is the defect."""
    letters = {"\x01": "1", "\t": "t", "\n": "n", "\r": "r"}
    if defect == "escape-letters":
        letters = {"\x01": "1", "\t": "T", "\n": "N", "\r": "R"}
    return "".join(f"\x01{letters[char]}" if char in letters else char for char in value)


class Connection:
    """One client."""

    def __init__(self, sock: socket.socket, number: int, defect: str) -> None:
        self.sock = sock
        self.defect = defect
        self.lock = threading.Lock()
        self.waiting: set[str] = set()
        self.say(f"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t7\nCUID\t{number}\nCOOKIE\t{'0' * 32}\nDONE")

    def say(self, text: str) -> None:
        with self.lock:
            self.sock.sendall(text.encode() + b"\n")

    def later(self, text: str) -> None:
        timer = threading.Timer(DELAY, self.try_to_say, [text])
        timer.daemon = True
        timer.start()

    def try_to_say(self, text: str) -> None:
        try:
            self.say(text)
        except OSError:
            return  # the client has left

    def serve(self) -> None:
        with self.sock, self.sock.makefile("rb") as stream:
            greeted = 0
            for raw in stream:
                line = raw.decode("utf-8", "surrogateescape").rstrip("\r\n")
                word, *fields = line.split("\t")
                if greeted < 2:
                    if word != ("VERSION", "CPID")[greeted]:
                        return
                    greeted += 1
                elif word == "AUTH":
                    if not self.auth(fields):
                        return
                elif word == "CONT":
                    self.cont(fields)
                else:
                    return

    def auth(self, fields: list[str]) -> bool:
        id, mech, *params = fields
        if mech.upper() != "PLAIN":
            if self.defect == "unknown-mechanism":
                sys.stdout.flush()
                raise SystemExit("no such mechanism")
            return False
        response = next((param[5:] for param in params if param.startswith("resp=")), None)
        if response is None:
            self.waiting.add(id)
            self.say(f"CONT\t{id}\t")
        else:
            self.plain(id, response)
        return True

    def cont(self, fields: list[str]) -> None:
        id, data = fields
        if id not in self.waiting:
            self.say(f"FAIL\t{id}\treason=Authentication request timed out")
        elif data or self.defect != "empty-continuation":
            self.waiting.discard(id)
            self.plain(id, data)

    def plain(self, id: str, response: str) -> None:
        parts = base64.b64decode(response).decode().split("\0")
        if len(parts) != 3:
            self.later(f"FAIL\t{id}")
            return
        user, password = parts[1:]
        if user == "int@x":
            code = "temp" if self.defect == "temp" else "code=temp_fail"
            self.later(f"FAIL\t{id}\tuser={user}\t{code}")
        elif password != "pass":
            self.later(
                f"FAIL\t{id}\tuser={user}" + (f"\nOK\t{id}\tuser={user}" if self.defect == "ok-after-fail" else "")
            )
        else:
            odd = (
                f"\tsodd={escape(chr(9).join(['a', 'b']) + chr(10) + 'c' + chr(13) + 'd' + chr(1) + 'e', self.defect)}"
            )
            self.say(f"OK\t{id}\tuser={user}" + odd * ("sodd" in user))


def main(defect: str, directory: Path) -> None:
    """Serve until somebody ends us."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "client"))
    listener.listen(64)
    crashed = threading.Event()

    def serve(sock: socket.socket, number: int) -> None:
        try:
            Connection(sock, number, defect).serve()
        except SystemExit:
            crashed.set()
            listener.shutdown(socket.SHUT_RDWR)
        except (OSError, ValueError):
            sock.close()

    number = 0
    while not crashed.is_set():
        try:
            sock, _ = listener.accept()
        except OSError:
            break
        number += 1
        threading.Thread(target=serve, args=(sock, number), daemon=True).start()
    time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
