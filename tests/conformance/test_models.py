"""The kit names what is wrong with servers that are wrong in a known way."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from authlua.conformance import check
from authlua.conformance import dialogue as d
from authlua.conformance.raw import PATIENCE, RawConnection

MODELS = Path(__file__).with_name("models.py")

NAMED = {
    "none": None,
    "escape-letters": "80-escape-letters",
    "empty-continuation": "82-empty-continuation",
    "ok-after-fail": "83-one-answer",
    "unknown-mechanism": "84-unknown-mechanism",
    "temp": "85-temporary-failure",
}
ASKED = [name for name in NAMED.values() if name]


@contextmanager
def model(defect: str, directory: Path) -> Iterator[Path]:
    """The socket of a running model server."""
    process = subprocess.Popen([sys.executable, str(MODELS), defect, str(directory)])
    try:
        bound = time.monotonic() + PATIENCE
        while True:
            try:
                RawConnection.connect(directory / "client").close()
                break
            except (FileNotFoundError, ConnectionRefusedError):
                assert time.monotonic() < bound
                time.sleep(0.02)
        yield directory / "client"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("defect", NAMED)
def test_a_defect_is_called_by_its_name(defect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of the dialogues about typical defects, the one about this defect fails."""
    monkeypatch.setattr(d, "fixed", lambda: [one for one in ALL if one.name in ASKED])
    monkeypatch.setattr("authlua.conformance.raw.PATIENCE", 3.0)
    with model(defect, tmp_path) as path:
        if defect == "unknown-mechanism":  # it takes all others down with it
            monkeypatch.setattr(d, "fixed", lambda: [one for one in ALL if one.name == NAMED[defect]])
        outcome = check({"client": path})
    failures = [failure.name for failure in outcome.failures]
    if defect == "ok-after-fail":  # each dialogue ends with a proof of silence, which meets it
        assert NAMED[defect] in failures
    else:
        assert failures == [NAMED[defect]] * bool(NAMED[defect])


ALL = d.fixed()
