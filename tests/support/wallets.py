"""Data directories with keys that open without a passphrase, as people who try commands have them."""

from pathlib import Path

from chain.signature import SigningKey
from node.data_directory import DataDirectory
from node.keystore import write_key


def make_wallet(root: Path, *, node_key: SigningKey | None = None, **keys: SigningKey) -> Path:
    """Return a new data directory: `keys` in its wallet by their names, and the node's own key if there is one."""
    wallet = root / "wallet"
    wallet.mkdir(parents=True)
    for name, key in keys.items():
        write_key(wallet / f"{name}.json", key, "", is_development=True)
    if node_key is not None:
        write_key(DataDirectory(root).key_path, node_key, "", is_development=True)
    return root
