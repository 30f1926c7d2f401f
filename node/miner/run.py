"""The miner as a process: find the node, load the task, work until a signal.

It refuses to know a key, a database and a peer: all of that is its node's, which it asks over RPC on loopback.
"""

import signal

from chain.errors import DecodeError
from ml.lottery import get_lottery
from node.backends import make_backend
from node.data_directory import DataDirectory
from node.exit_codes import CommandError, ExitCode
from node.learning import load_task
from node.miner.link import NodeLink
from node.miner.loop import MinerLoop
from node.miner.tools import Tools
from node.observability.journal import get_log, start_journal
from node.options import MineOptions
from node.priority import give_way
from node.rpc.client import NodeUnreachable, read_token

log = get_log("miner")


def run(options: MineOptions) -> int:
    """Mine for the node of a data directory until a signal; returns an exit code.

    Raises CommandError, and ModelError where the backend or the network's task asks for more than this machine has.
    """
    give_way(options.niceness)
    start_journal(options.log_level, is_json=options.output.json)
    backend, lottery = make_backend(options.backend, threads=1), get_lottery(options.backend)
    cookie_path = DataDirectory(options.directory).cookie_path
    try:
        link = NodeLink(options.rpc_url, lambda: read_token(cookie_path))
        genesis = link.get_genesis()
        task = load_task(genesis.task)
    except NodeUnreachable as error:
        raise CommandError(ExitCode.NODE_UNREACHABLE, str(error)) from None
    except DecodeError as error:
        raise CommandError(ExitCode.FAILURE, f"this network's task cannot be trained here: {error}") from None
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: link.stop())
    link.start()
    tools = Tools(genesis, task, backend, lottery, options.is_sabotaging, options.posted)
    log.info("mining", network=genesis.network, rpc=options.rpc_url)
    MinerLoop(link, tools).run()
    return int(ExitCode.OK)
