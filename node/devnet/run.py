"""`mathesis devnet`: start the processes, watch them, stop them together, say whether the network did what it must.

It is a supervisor: it talks to its nodes as anybody would, over RPC, and holds no chain of its own.
"""

import asyncio
import signal
from dataclasses import dataclass, field

from node.devnet.auditors import Audited, get_audited, register_auditor
from node.devnet.holders import Holder, get_holders
from node.devnet.members import Member, make_members, start_miner, start_node
from node.devnet.processes import Child, stop_children
from node.devnet.verdict import compute_verdict
from node.devnet.view import NetworkView
from node.exit_codes import CommandError, ExitCode
from node.options import DevnetOptions
from node.rpc import methods
from node.rpc.client import AsyncRpcClient, NodeUnreachable
from node.rpc.registry import Params
from node.rpc.views import StatusView

POLL_S = 0.5
START_TIMEOUT_S = 90
CONVERGENCE_TIMEOUT_S = 120


@dataclass(slots=True)
class Devnet:
    """A running network."""

    options: DevnetOptions
    members: tuple[Member, ...]
    view: NetworkView
    stopping: asyncio.Event
    nodes: list[Child] = field(default_factory=list)
    miners: list[Child] = field(default_factory=list)

    async def run(self) -> int:
        """Run until the wanted height or a signal; return the exit code."""
        try:
            await self._start()
            if not await self._watch():
                self.view.say("stopped")
                return ExitCode.OK
            statuses = await self._converge()
            if not statuses:
                self.view.say("stopped")
                return ExitCode.OK
            findings = await compute_verdict(self.members, statuses)
            self.view.show_findings(findings)
            is_good = all(finding.is_good for finding in findings)
            self.view.say(f"devnet {'passed' if is_good else 'FAILED'} at height {statuses[0].head.height}")
            return ExitCode.OK if is_good else ExitCode.FAILURE
        finally:
            await stop_children(self.miners)
            await stop_children(self.nodes)

    async def _start(self) -> None:
        for member in self.members:
            self.nodes.append(await start_node(member, self.members))
        async with asyncio.timeout(START_TIMEOUT_S):
            while await self._get_statuses() is None and not self.stopping.is_set():
                self._check_alive()
                await self._sleep(POLL_S)
        if self.stopping.is_set():
            return
        for member in self.members:
            await self._start_miner(member)
        for member in self.members:
            await register_auditor(member)
        self.view.say(f"{len(self.nodes)} nodes, {self.options.miners} mining; logs in {self.options.directory}")

    async def _start_miner(self, member: Member) -> None:
        if member.number < self.options.miners:
            self.miners.append(await start_miner(member))
        elif member.number == len(self.members) - 1:
            self.miners.append(await start_miner(member, is_sabotaging=True))

    async def _watch(self) -> bool:
        """Show the network until every node has the wanted height; False when a signal came first."""
        while not self.stopping.is_set():
            self._check_alive()
            statuses = await self._get_statuses()
            accounts = None if statuses is None else await self._get_accounts(statuses)
            if statuses is not None and accounts is not None:
                self.view.show(statuses, *accounts)
                wanted = self.options.blocks
                if wanted is not None and min(status.head.height for status in statuses) >= wanted:
                    return True
            await self._sleep(POLL_S)
        return False

    async def _converge(self) -> list[StatusView]:
        """Stop mining at a moment when all nodes agree; mine on while two equal branches stand side by side.

        Returns what the nodes say then, or nothing when a signal came first.
        """
        async with asyncio.timeout(CONVERGENCE_TIMEOUT_S):
            while not self.stopping.is_set():
                await stop_children(self.miners)
                self.miners.clear()
                for _ in range(10):
                    statuses = await self._get_statuses()
                    if statuses is not None and len({status.head.hash for status in statuses}) == 1:
                        return statuses
                    await self._sleep(POLL_S)
                for member in self.members[: self.options.miners]:
                    self.miners.append(await start_miner(member))
                await self._sleep(4 * POLL_S)
        return []

    async def _get_statuses(self) -> list[StatusView] | None:
        """Return what every node says of itself, or None while one does not answer."""
        statuses = []
        for member in self.members:
            async with AsyncRpcClient(member.rpc.url) as client:
                try:
                    statuses.append(await client.call(methods.GET_STATUS, Params()))
                except NodeUnreachable:
                    return None
        return statuses

    async def _get_accounts(self, statuses: list[StatusView]) -> tuple[list[int], list[Holder], list[Audited]] | None:
        """Return every node's atoms, who holds the model, and every node's audits; None while the first is silent."""
        requests = [methods.AccountParams(account=status.node) for status in statuses]
        async with AsyncRpcClient(self.members[0].rpc.url) as client:
            try:
                balances = [int((await client.call(methods.GET_ACCOUNT, request)).balance) for request in requests]
                return balances, await get_holders(client, statuses), await get_audited(client, statuses)
            except NodeUnreachable:
                return None

    def _check_alive(self) -> None:
        for child in self.nodes:
            if not child.is_running:
                code = child.process.returncode
                if code is not None and code in set(ExitCode):
                    raise CommandError(ExitCode(code), f"{child.name} ended: {child.read_log_end(1)}")

    async def _sleep(self, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(self.stopping.wait(), timeout_s)
        except TimeoutError:
            return


async def _run(options: DevnetOptions, members: tuple[Member, ...], view: NetworkView) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    return await Devnet(options, members, view, stopping).run()


def run(options: DevnetOptions) -> int:
    """Run a development network; returns an exit code."""
    view = NetworkView(options.output)
    view.say("preparing keys and genesis; measuring this machine")
    members = make_members(options)
    try:
        with view:
            return int(asyncio.run(_run(options, members, view)))
    except TimeoutError:
        raise CommandError(
            ExitCode.FAILURE, f"the network took too long; see the logs in {options.directory}"
        ) from None
