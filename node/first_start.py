"""What an empty data directory is given when a node first starts in it: the network's genesis record, and a key.

Both are there at every later start, and nothing is ever written over. It knows neither chain nor peers.
"""

from pathlib import Path

from chain.codec import decode
from chain.errors import DecodeError
from chain.genesis import GENESIS_BYTES_MAX, Genesis
from chain.signature import SigningKey
from node.data_directory import DataDirectory, write_private
from node.exit_codes import CommandError, ExitCode
from node.keystore import load_key, make_key, read_address, write_key
from node.observability.journal import get_log
from node.options import NodeOptions

log = get_log("node")


def take_genesis(directory: DataDirectory, path: Path) -> None:
    """Copy a genesis record into an empty directory; raises CommandError when it is none or not the directory's."""
    data = path.read_bytes()
    if directory.genesis_path.exists():
        if directory.genesis_path.read_bytes() != data:
            message = f"{directory.root} holds another network than {path}; use another directory"
            raise CommandError(ExitCode.CORRUPT_DATABASE, message)
        return
    try:
        decode(Genesis, data, GENESIS_BYTES_MAX)
    except DecodeError as error:
        raise CommandError(ExitCode.USAGE, f"{path} is no genesis record: {error}") from None
    write_private(directory.genesis_path, data)


def open_node_key(directory: DataDirectory, options: NodeOptions) -> SigningKey:
    """Return the node's key, which is made at its first start; raises CommandError, KeystoreError, StorageError."""
    path, passphrase = directory.key_path, options.passphrase
    if not path.exists():
        directory.read_genesis()
        if not passphrase and not options.makes_development_key:
            help_text = "--passphrase (or MATHESIS_PASSPHRASE) has one made and sealed, --development one without"
            raise CommandError(ExitCode.USAGE, f"found no key at {path}, expected the node's; {help_text}")
        write_key(path, make_key(), passphrase, is_development=not passphrase)
        log.info("key made", address=read_address(path), file=str(path))
    return load_key(path, passphrase)
