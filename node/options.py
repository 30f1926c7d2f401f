"""What a person chose on the command line, as plain frozen records that the long-running programs take.

`node.devnet.run`, `node.run.run` and `node.miner.run` each take one of these and return a code of `node.exit_codes`.
It knows no default of the protocol (those stand in `chain.genesis`) and imports nothing heavy: `--help` is fast.
"""

from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK = "127.0.0.1"
P2P_PORT = 4610
RPC_PORT = 4611
"""Adjacent to the port of peers; loopback unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and a TCP port; port 0 lets the system choose."""

    host: str
    port: int

    @property
    def text(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The address as a URL of plain HTTP."""
        return f"http://{self.text}"


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How to speak: `json` prints one JSON object a line, `plain` prints lines without a live view or colour."""

    json: bool = False
    plain: bool = False


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """One validator node."""

    directory: Path
    p2p: Endpoint = Endpoint(LOOPBACK, P2P_PORT)
    rpc: Endpoint = Endpoint(LOOPBACK, RPC_PORT)
    peers: tuple[Endpoint, ...] = ()
    """Peers that are always dialled again."""
    seeds: tuple[Endpoint, ...] = ()
    """Nodes that are asked for addresses of others while few are known."""
    advertised: Endpoint | None = None
    """Where others can reach this node, a numeric host; found out from peers when None."""
    genesis_path: Path | None = None
    """A genesis record to copy into an empty data directory; otherwise the directory holds one."""
    rpc_hosts: tuple[str, ...] = ()
    """Names besides loopback that a request's Host header may carry."""
    rpc_origins: tuple[str, ...] = ()
    """Origins of web pages that may call the RPC; none by default."""
    passphrase: str = field(default="", repr=False)
    """Opens the keystore, or seals a new one; the empty one belongs to keys made for development."""
    makes_development_key: bool = False
    """Whether a key that has to be made is made without a passphrase."""
    is_snapshot_sync: bool = False
    """Start an empty directory from a recent state of the peers instead of replaying every block."""
    is_archive: bool = False
    """Keep every state instead of the last ones."""
    output: OutputOptions = OutputOptions()
    log_level: str = "info"
    """The least level of events that the journal shows."""


BEST_TASK, NO_TASK = "best", "none"
"""Which posted task a miner trains: the one that pays a segment best, or none at all."""
MINER_NICENESS = 5
"""Miners yield to the nodes that share their cores; blocks would wait for mining otherwise."""


@dataclass(frozen=True, slots=True)
class MineOptions:
    """One miner: a client of its node's RPC that trains segments and looks for tickets in them."""

    directory: Path
    """The node's data directory: the RPC cookie is there, and the signing key stays with the node."""
    rpc_url: str = Endpoint(LOOPBACK, RPC_PORT).url
    backend: str = "cpu"
    is_sabotaging: bool = False
    """Forge every segment's delta and mine no tickets: for networks that show what becomes of forgers."""
    posted: str = BEST_TASK
    """Which posted task is trained when genesis' is: `best`, `none`, or one by its hex name."""
    niceness: int = MINER_NICENESS
    """How far it yields to others on its machine, from 0 to 19."""
    output: OutputOptions = OutputOptions()
    log_level: str = "info"
    """The least level of events that the journal shows."""


@dataclass(frozen=True, slots=True)
class DevnetOptions:
    """A network of nodes on loopback in one directory."""

    directory: Path
    nodes: int = 3
    miners: int = 2
    """How many of the nodes mine; the first ones."""
    blocks: int | None = None
    """Stop when every node has reached this height; run until interrupted when None."""
    fresh: bool = False
    """Delete what an earlier run left in the directory."""
    base_port: int = P2P_PORT
    """Node i takes ports base + 2i (peers) and base + 2i + 1 (RPC)."""
    output: OutputOptions = OutputOptions()
