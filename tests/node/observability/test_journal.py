"""The journal hides secrets, speaks both forms, and takes what libraries say into the same stream."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from node.observability.journal import HIDDEN, get_log, start_journal
from node.terminal import is_control

SECRET = "correct horse"


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("mathesis")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def write(level: str = "info", *, is_json: bool = True) -> io.StringIO:
    stream = io.StringIO()
    start_journal(level, is_json=is_json, stream=stream)
    return stream


def test_an_event_is_one_object_a_line() -> None:
    stream = write()
    get_log("node").info("listening", p2p="127.0.0.1:4610", peer=b"\xab" * 32)
    line = json.loads(stream.getvalue())
    assert line["event"] == "listening"
    assert line["level"] == "info"
    assert line["logger"] == "mathesis.node"
    assert line["p2p"] == "127.0.0.1:4610"
    assert line["peer"] == "ab" * 8
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("is_json", [True, False])
@pytest.mark.parametrize("name", ["passphrase", "token", "rpc_cookie", "Authorization", "private_key", "mnemonic"])
def test_secrets_are_hidden(name: str, is_json: bool) -> None:
    stream = write(is_json=is_json)
    get_log("node").warning("started", **{name: SECRET})
    assert SECRET not in stream.getvalue()
    assert HIDDEN in stream.getvalue()


@pytest.mark.parametrize("is_json", [True, False])
def test_a_trace_shows_no_local_variable(is_json: bool) -> None:
    stream = write(is_json=is_json)

    def fail(passphrase: str) -> None:
        raise ValueError(len(passphrase))

    try:
        fail(SECRET)
    except ValueError:
        get_log("node").exception("failed")
    assert "ValueError: 13" in stream.getvalue()
    assert SECRET not in stream.getvalue()


def test_levels_are_kept() -> None:
    stream = write("warning")
    get_log("node").info("quiet")
    get_log("node").warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_what_libraries_say_has_the_same_form() -> None:
    stream = write()
    logging.getLogger("aiohttp.server").warning("odd request from %s", "somewhere")
    logging.getLogger("aiohttp.server").info("nobody needs this")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == "odd request from somewhere"


def test_people_read_one_line_an_event() -> None:
    stream = write(is_json=False)
    get_log("importer").warning("block refused", height=7, rule="ticket-digest")
    assert "block refused" in stream.getvalue()
    assert "height=7 rule=ticket-digest" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue(), "no colour where nobody watches"


@pytest.mark.parametrize("is_json", [True, False])
def test_no_text_steers_the_terminal(is_json: bool) -> None:
    """Names of tasks are chosen by strangers; what libraries say may quote them."""
    stream = write(is_json=is_json)
    get_log("part").info("settled", task="a\x1b[2Jb\x9b1m")
    logging.getLogger("aiohttp").warning("found %s", "\x1b]0;title\x07")
    found = stream.getvalue()
    assert not [character for character in found if is_control(character) and character != "\n"]
    assert len(found.splitlines()) == 2
    assert "[2Jb" in found
    assert "]0;title" in found
