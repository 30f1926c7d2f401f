"""What can go wrong between a manifest and its blob, each with a stable rule.

A message says what was found, what was expected and what to do about it. What is wrong with the content of a member
is found by `ml` and becomes `malformed` here.
"""

from chain.errors import RuleError

RULES = {
    "unknown-dataset": "no manifest, file or blob answers to the name",
    "malformed": "a manifest, an archive or a member cannot be read as what it should be",
    "wrong-hash": "the source is not the one that the manifest names",
    "wrong-root": "the source is right, but what came out of it is not",
    "missing-member": "the archive lacks a member",
    "truncated": "the source or a member ends too early",
    "too-large": "the source or its members exceed the bounds",
    "no-network": "no index or server can be reached",
    "no-pip": "pip is not installed",
    "no-source": "the index or server can be reached but has not got it",
}


class DatasetError(RuleError):
    """A data set cannot be had."""

    def __init__(self, rule: str, message: str) -> None:
        """Name the `rule` (one of RULES); `message` says what was found, expected, and what to do."""
        assert rule in RULES
        super().__init__(rule, message)
