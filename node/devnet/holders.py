"""Who holds the network's model, as the live view shows it: share, income to claim, settled segments.

Members come first, in their order and with zeros where they hold nothing; then whoever else holds units, largest first.
It asks a node over RPC and verifies nothing.
"""

from dataclasses import dataclass

from node.rpc import methods
from node.rpc.client import AsyncRpcClient
from node.rpc.list_methods import LIST_HOLDERS, HoldersParams
from node.rpc.list_views import HolderView
from node.rpc.views import StatusView

OTHERS_MAX = 8
"""Holders beside the members that are shown."""
HUNDREDTHS = 10_000
"""Of a percent, in the whole."""


@dataclass(frozen=True, slots=True)
class Holder:
    """One line of the view; `segments` is None for a key that does not mine."""

    name: str
    units: int
    units_total: int
    claimable_atoms: int
    segments: int | None

    @property
    def percent(self) -> str:
        """The share in percent with two decimals, rounded down; a dash while nobody has units."""
        if not self.units_total:
            return "-"
        hundredths = self.units * HUNDREDTHS // self.units_total
        return f"{hundredths // 100}.{hundredths % 100:02d}"


async def get_holders(client: AsyncRpcClient, statuses: list[StatusView]) -> list[Holder]:
    """Return the members' holdings and the largest of others; raises what `AsyncRpcClient.call` does."""
    task = statuses[0].task.task
    page = await client.call(LIST_HOLDERS, HoldersParams(task))
    found = list(page.holders)
    while page.next is not None:
        page = await client.call(LIST_HOLDERS, HoldersParams(task, page.next))
        found += page.holders
    total, by_account = int(page.units_total), {holder.account: holder for holder in found}
    lines = []
    for number, status in enumerate(statuses, start=1):
        miner = await client.call(methods.GET_MINER, methods.AccountParams(status.node))
        held = by_account.pop(status.node, None)
        segments = None if miner.value is None else miner.settled_segments
        lines.append(_make_holder(f"node {number}", held, total, segments))
    others = sorted(by_account.values(), key=lambda holder: (-int(holder.units), holder.account))
    return lines + [_make_holder(holder.account[:14], holder, total, None) for holder in others[:OTHERS_MAX]]


def _make_holder(name: str, held: HolderView | None, total: int, segments: int | None) -> Holder:
    return Holder(name, int(held.units if held else 0), total, int(held.claimable if held else 0), segments)
