"""The errors a caller can act on. Each names what was found and what was expected.

A fault of a peer or a caller is one of these; a fault of our own is an `AssertionError`.
"""


class MathesisError(Exception):
    """Base of every error that this project raises on purpose."""


class RuleError(MathesisError):
    """A rule that has a name is broken."""

    def __init__(self, rule: str, message: str) -> None:
        """Name the broken `rule` (a stable, short slug) and say what was found and expected."""
        super().__init__(f"{rule}: {message}")
        self.rule = rule
        self.message = message


class DecodeError(MathesisError):
    """Bytes are not the canonical encoding of the record they are read as."""


class InvalidTransaction(RuleError):
    """A transaction breaks a rule of the ledger."""


class InvalidBlock(RuleError):
    """A header or a block breaks a rule of consensus."""


class InvalidProof(RuleError):
    """A Merkle proof, a ticket or an opening does not show what it claims."""


class MissingData(MathesisError):
    """Content that is named by its hash is not at hand (yet)."""

    def __init__(self, hashes: tuple[bytes, ...]) -> None:
        """Keep the `hashes` of the content that has to be fetched first."""
        super().__init__(f"{len(hashes)} piece(s) of content are missing: {', '.join(h.hex() for h in hashes)}")
        self.hashes = hashes


class StorageError(MathesisError):
    """The database refuses to be read or written, or holds what it must not hold."""
