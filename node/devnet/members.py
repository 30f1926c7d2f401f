"""The members of a development network: their directories, keys, ports and command lines.

What a member runs is what anybody runs, `mathesis node` and `mathesis mine`, on loopback. It knows no block: whether
the network does well is judged from outside, over RPC.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from chain.errors import StorageError
from chain.genesis import Allocation, Genesis, Parameters
from node.data_directory import DataDirectory, DirectoryLock
from node.devnet.genesis import DEFAULTS, Members, make_devnet_genesis
from node.devnet.processes import Child, start_child
from node.exit_codes import CommandError, ExitCode
from node.keystore import load_key, make_key, write_key
from node.options import LOOPBACK, MINER_NICENESS, DevnetOptions, Endpoint


@dataclass(frozen=True, slots=True)
class Member:
    """One node of the network, `number` from 0."""

    number: int
    directory: DataDirectory
    p2p: Endpoint
    rpc: Endpoint

    @property
    def name(self) -> str:
        """What people call it: the first node is node 1."""
        return f"node {self.number + 1}"


def make_members(
    options: DevnetOptions, others: tuple[Allocation, ...] = (), parameters: Parameters = DEFAULTS, newcomers: int = 0
) -> tuple[Member, ...]:
    """Return the network's members with directories, keys and one genesis, which may fund others too.

    The last `newcomers` of them have nothing from it and are no miners. Raises CommandError when another network runs
    in the directory, StorageError, KeystoreError.
    """
    _clear(options)
    members = tuple(_make_member(options, number) for number in range(options.nodes))
    for member in members:
        member.directory.create()
        if not member.directory.key_path.exists():
            write_key(member.directory.key_path, make_key(), "", is_development=True)
    listed = members[: len(members) - newcomers]
    _share_genesis(members, lambda: _make_genesis(options, listed, others, parameters))
    return members


def _clear(options: DevnetOptions) -> None:
    """Delete what earlier members left, when asked to, and nothing else that lies in the directory."""
    for root in sorted(options.directory.glob("node[0-9]*")):
        try:
            DirectoryLock(DataDirectory(root)).release()
        except StorageError as error:
            raise CommandError(ExitCode.DIRECTORY_IN_USE, str(error)) from None
        if options.fresh:
            shutil.rmtree(root)


def _make_member(options: DevnetOptions, number: int) -> Member:
    port = options.base_port + 2 * number
    directory = DataDirectory(options.directory / f"node{number + 1}")
    return Member(number, directory, Endpoint(LOOPBACK, port), Endpoint(LOOPBACK, port + 1))


def _make_genesis(
    options: DevnetOptions, members: tuple[Member, ...], others: tuple[Allocation, ...], parameters: Parameters
) -> Genesis:
    accounts = tuple(load_key(member.directory.key_path, "").public_key for member in members)
    genesis = make_devnet_genesis(Members(accounts, options.miners), time.time_ns() // 1_000_000, parameters)
    return replace(genesis, allocations=(*genesis.allocations, *others))


def _share_genesis(members: tuple[Member, ...], make_genesis: Callable[[], Genesis]) -> None:
    held = [member for member in members if member.directory.genesis_path.exists()]
    genesis = held[0].directory.read_genesis() if held else make_genesis()
    for member in members:
        if member not in held:
            if member.directory.database_path.exists():
                raise StorageError(f"{member.directory.root} holds a database but no genesis; start with --fresh")
            member.directory.write_genesis(genesis)


async def start_node(member: Member, members: tuple[Member, ...]) -> Child:
    """Start a member's node, with every other member as a peer."""
    arguments = ["node", "--dir", str(member.directory.root), "--p2p", member.p2p.text, "--rpc", member.rpc.text]
    for other in members:
        if other is not member:
            arguments += ["--peer", other.p2p.text]
    return await start_child(member.name, arguments, member.directory.log_path)


async def start_miner(member: Member, *, is_sabotaging: bool = False, niceness: int = MINER_NICENESS) -> Child:
    """Start a miner for a member's node."""
    arguments = ["mine", "--dir", str(member.directory.root), "--rpc", member.rpc.url]
    arguments += ["--niceness", str(niceness), *(["--sabotage"] if is_sabotaging else [])]
    name = f"{'forger' if is_sabotaging else 'miner'} of {member.name}"
    return await start_child(name, arguments, member.directory.root / "miner.log")
