"""What a person sees of a development network: shares, income and settled segments, live, in lines and as JSON."""

import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from rich.console import Console

from chain.genesis import Parameters
from node.devnet.auditors import Audited
from node.devnet.holders import OTHERS_MAX, Holder, get_holders
from node.devnet.verdict import check_audits
from node.devnet.view import NetworkView
from node.options import OutputOptions
from node.rpc.client import AsyncRpcClient
from node.rpc.list_methods import LIST_HOLDERS, HoldersParams
from node.rpc.list_views import HolderPageView, HolderView
from node.rpc.methods import GET_STATUS
from node.rpc.registry import Params
from node.rpc.views import StatusView
from tests.support.live_node import LiveNode, run_live_node

HOLDERS = [
    Holder("node 1", 2 * 10**9, 3 * 10**9, 1_500_000_001, 4),
    Holder("node 2", 10**9, 3 * 10**9, 0, 2),
    Holder("mth1qqqqqqqqqq", 0, 3 * 10**9, 7, None),
]


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path / "node") as node:
        await node.mine(1)
        yield node


async def ask_status(live: LiveNode) -> StatusView:
    async with AsyncRpcClient(live.url) as rpc:
        return await rpc.call(GET_STATUS, Params())


def show(output: OutputOptions, status: StatusView, *, is_terminal: bool = False) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=is_terminal, width=200)
    with NetworkView(output, console) as view:
        view.show([status], [10**9], HOLDERS, [Audited(7, 2_500_000_000, 20 * 10**9)])
    return text.getvalue()


async def test_lines_tell_shares_income_and_segments_of_each_holder(live: LiveNode) -> None:
    text = show(OutputOptions(plain=True), await ask_status(live))
    assert "shares 66.66/33.33/0.00 % · income 1.500000001/0/0.000000007 · settled 4/2/-" in text
    assert "audits 7 for 2.5 coins" in text
    assert "height    1" in text


async def test_the_live_view_has_a_line_for_each_holder(live: LiveNode) -> None:
    text = show(OutputOptions(), await ask_status(live), is_terminal=True)
    assert "Shares of the network's model" in text
    lines = [line for line in text.splitlines() if "66.66 %" in line]
    assert lines
    assert all(part in lines[-1] for part in ("node 1", "2,000,000,000", "1.500000001 coins", "4"))


async def test_json_holds_the_same(live: LiveNode, capsys: pytest.CaptureFixture[str]) -> None:
    show(OutputOptions(json=True), await ask_status(live))
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["holders"][0] == {
        "name": "node 1", "units": 2 * 10**9, "units_total": 3 * 10**9, "claimable_atoms": 1_500_000_001, "segments": 4,
    }  # fmt: skip


def test_a_share_of_nothing_is_a_dash_and_no_share_is_rounded_up() -> None:
    assert replace(HOLDERS[0], units_total=0).percent == "-"
    assert Holder("x", 99_999, 100_000, 0, 0).percent == "99.99"
    assert Holder("x", 1, 10**6, 0, 0).percent == "0.00"


async def test_members_come_first_and_others_by_size(live: LiveNode, monkeypatch: pytest.MonkeyPatch) -> None:
    status = await ask_status(live)
    others = [HolderView(f"mth1other{number:02d}xxxxxxxxx", str(number), "5") for number in range(12)]
    first = HolderPageView(status.task.task, 1, "100", others[:6], "0x" + 64 * "1")
    last = HolderPageView(status.task.task, 1, "100", [*others[6:], HolderView(status.node, "34", "9")], None)
    honest = AsyncRpcClient.call

    async def answer(client: AsyncRpcClient, method: object, params: object) -> object:
        if method is LIST_HOLDERS:
            assert isinstance(params, HoldersParams)
            return first if params.cursor is None else last
        return await honest(client, method, params)  # type: ignore[arg-type, type-var]

    monkeypatch.setattr(AsyncRpcClient, "call", answer)
    async with AsyncRpcClient(live.url) as rpc:
        found = await get_holders(rpc, [status])
    assert found[0] == Holder("node 1", 34, 100, 9, 0)
    assert [holder.units for holder in found[1:]] == list(range(11, 11 - OTHERS_MAX, -1))
    assert found[1].name == "mth1other11xxx"


async def test_without_any_units_members_are_shown_with_zeros(live: LiveNode) -> None:
    status = await ask_status(live)
    async with AsyncRpcClient(live.url) as rpc:
        assert await get_holders(rpc, [status]) == [Holder("node 1", 0, 0, 0, 0)]


@pytest.mark.parametrize(
    ("audited", "rounds", "is_good"),
    [
        ([Audited(3, 10**9, 20 * 10**9), Audited(2, 10**9, 18 * 10**9)], 4, True),
        ([Audited(3, 10**9, 20 * 10**9), Audited(0, 0, 0)], 4, False),
        ([Audited(0, 0, 20 * 10**9)], 2, False),
        ([Audited(0, 0, 20 * 10**9)], 1, True),
        ([Audited(1, 10**9, 16 * 10**9)], 4, False),
        ([Audited(20, 0, 0)], 0, True),
    ],
)
def test_the_verdict_wants_audits_that_are_paid_and_auditors_that_stand(
    audited: list[Audited], rounds: int, *, is_good: bool
) -> None:
    finding = check_audits(audited, Parameters(), rounds)
    assert finding.is_good is is_good
    assert f"{sum(each.proven for each in audited)} proven" in finding.detail
