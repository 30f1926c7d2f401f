"""What strangers say is shown without the characters that would steer a terminal."""

import pytest

from node.cli.output import print_record
from node.rpc.client import RemoteError, decode_result
from node.rpc.errors import ErrorData
from node.terminal import REPLACEMENT

HOSTILE = "a\x1bc\x07\x9b2J\x7fb"
SHOWN = f"a{REPLACEMENT}c{REPLACEMENT}{REPLACEMENT}2J{REPLACEMENT}b"


def test_an_error_of_a_node_is_one_line_that_steers_nothing() -> None:
    answer = b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no\\u001b[2J\\nverified  all"}}'
    with pytest.raises(RemoteError) as caught:
        decode_result(answer, 1, int)
    assert str(caught.value) == f"no{REPLACEMENT}[2J{REPLACEMENT}verified  all"
    told = str(RemoteError(1, "no", ErrorData(HOSTILE, detail=HOSTILE)))
    assert told == f"no ({SHOWN}): {SHOWN}"


def test_a_result_steers_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_record({"name": f"{HOSTILE}\nbond  0", "none": None}, is_json=False)
    assert capsys.readouterr().out == f"name  {SHOWN}\n      bond  0\nnone  -\n"
    print_record({}, is_json=False, text=f"first {HOSTILE}\nsecond")
    assert capsys.readouterr().out == f"first {SHOWN}\nsecond\n"
