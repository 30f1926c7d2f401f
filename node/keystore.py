"""Keystores: one secret key a file, readable by its owner, sealed by a passphrase.

Argon2id makes guessing the passphrase dear, ChaCha20-Poly1305 seals the 32 bytes and binds the file's other fields. A
key made for development is sealed under the empty passphrase at no cost and says so. Source: RFC 9106, RFC 8439.
"""

import os
from pathlib import Path

import msgspec

from chain.errors import MathesisError
from chain.signature import SigningKey
from node.addresses import format_address
from node.data_directory import write_private

KEYSTORE_BYTES_MAX = 4096
VERSION = 1
_TIME_COST, _MEMORY_KIB, _LANES = 3, 65_536, 1
_DEVELOPMENT_COST = (1, 8, 1)
_MEMORY_KIB_MAX = 1_048_576


class KeystoreError(MathesisError):
    """A keystore cannot be read, written or opened."""


class _Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    address: str
    development: bool
    kdf: str
    time_cost: int
    memory_kib: int
    lanes: int
    salt: bytes
    cipher: str
    nonce: bytes

    def validate(self) -> None:
        """Check the version and that opening it costs a bounded amount; raises KeystoreError."""
        rules = (
            (self.version == VERSION, "version", self.version, VERSION),
            (self.kdf == "argon2id", "key derivation", self.kdf, "argon2id"),
            (self.cipher == "chacha20-poly1305", "cipher", self.cipher, "chacha20-poly1305"),
            (1 <= self.time_cost <= 16, "time cost", self.time_cost, "1 to 16"),
            (1 <= self.lanes <= 16, "lanes", self.lanes, "1 to 16"),
            (8 * self.lanes <= self.memory_kib <= _MEMORY_KIB_MAX, "memory", self.memory_kib, "up to 1 GiB"),
            (16 <= len(self.salt) <= 64, "salt length", len(self.salt), "16 to 64"),
            (len(self.nonce) == 12, "nonce length", len(self.nonce), 12),
        )
        for holds, what, found, expected in rules:
            if not holds:
                raise KeystoreError(f"found {what} {found!r:.40}, expected {expected}")


class _Keystore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seal: _Seal
    ciphertext: bytes


def make_key() -> SigningKey:
    """Return a fresh key from the system's randomness."""
    return SigningKey(os.urandom(32))


def write_key(path: Path, key: SigningKey, passphrase: str, is_development: bool = False) -> None:
    """Seal a key into a new file of mode 0600; raises KeystoreError, or StorageError when the disk refuses."""
    if path.exists():
        raise KeystoreError(f"{path} exists; a key is never overwritten")
    if is_development != (passphrase == ""):
        raise KeystoreError("found an empty passphrase" if not passphrase else "a development key has no passphrase")
    time_cost, memory_kib, lanes = _DEVELOPMENT_COST if is_development else (_TIME_COST, _MEMORY_KIB, _LANES)
    seal = _Seal(
        version=VERSION,
        address=format_address(key.public_key),
        development=is_development,
        kdf="argon2id",
        time_cost=time_cost,
        memory_kib=memory_kib,
        lanes=lanes,
        salt=os.urandom(16),
        cipher="chacha20-poly1305",
        nonce=os.urandom(12),
    )
    text = msgspec.json.encode(_Keystore(seal, _encrypt(seal, passphrase, key.get_secret())))
    # Another command may have made a key here while this one was sealed, and told somebody its address.
    write_private(path, msgspec.json.format(text, indent=2) + b"\n", is_new=True)


def load_key(path: Path, passphrase: str) -> SigningKey:
    """Open a keystore; raises KeystoreError when it is missing, damaged or the passphrase is wrong."""
    keystore = _read(path)
    keystore.seal.validate()
    secret = _decrypt(keystore.seal, passphrase, keystore.ciphertext, path)
    key = SigningKey(secret)
    if format_address(key.public_key) != keystore.seal.address:
        raise KeystoreError(f"{path} holds the key of another address than it says")
    return key


def read_address(path: Path) -> str:
    """Return the address that a keystore says it is for, unopened; raises KeystoreError."""
    return _read(path).seal.address


def is_development_key(path: Path) -> bool:
    """Say whether a keystore opens with the empty passphrase; raises KeystoreError."""
    return _read(path).seal.development


def _read(path: Path) -> _Keystore:
    try:
        with path.open("rb") as file:
            data = file.read(KEYSTORE_BYTES_MAX + 1)
    except OSError as error:
        raise KeystoreError(f"cannot read the keystore {path}: {error.strerror}") from None
    if len(data) > KEYSTORE_BYTES_MAX:
        raise KeystoreError(f"{path} is no keystore: found more than {KEYSTORE_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(data, type=_Keystore)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeystoreError(f"{path} is no keystore or is damaged: {error}") from None


def _encrypt(seal: _Seal, passphrase: str, secret: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415 - only who opens pays

    cipher = ChaCha20Poly1305(_derive(seal, passphrase))
    return cipher.encrypt(seal.nonce, secret, msgspec.json.encode(seal))


def _decrypt(seal: _Seal, passphrase: str, ciphertext: bytes, path: Path) -> bytes:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - only who opens pays
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

    try:
        secret = ChaCha20Poly1305(_derive(seal, passphrase)).decrypt(seal.nonce, ciphertext, msgspec.json.encode(seal))
    except InvalidTag:
        raise KeystoreError(f"the passphrase of {path} is wrong, or the file was altered") from None
    if len(secret) != 32:
        raise KeystoreError(f"{path} holds {len(secret)} secret bytes, expected 32")
    return secret


def _derive(seal: _Seal, passphrase: str) -> bytes:
    from argon2.low_level import Type, hash_secret_raw  # noqa: PLC0415 - only who opens a keystore pays for it

    return hash_secret_raw(
        passphrase.encode(), seal.salt, seal.time_cost, seal.memory_kib, seal.lanes, hash_len=32, type=Type.ID
    )
