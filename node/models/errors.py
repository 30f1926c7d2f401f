"""What can be wrong with a spec, a checkpoint file or an exported model, each with a stable rule.

A message says what was found, what was expected and what to do about it; nothing has been written by then.
"""

from chain.errors import RuleError

RULES = {
    "unknown-spec": "no spec of this version and no file answers to the name",
    "bad-spec": "a spec breaks a bound, or its file is not of the form",
    "bad-data": "the data set does not fit the model",
    "bad-file": "a file is not a checkpoint or an export of this version",
    "wrong-digest": "a file is not the one that was written",
    "wrong-root": "weights are not those that the chain names",
    "wrong-run": "a checkpoint belongs to another spec, data set or seed",
    "incomplete": "a checkpoint lacks what is asked of it",
    "exists": "there is something where a result should go",
    "bad-rule": "a rule of sampling is none",
    "unavailable": "a part of the installation that was asked for is missing",
    "memory": "training a model takes more memory than the machine or its GPU has",
}

REFUSED = ("wrong-digest", "wrong-root", "bad-file")
"""Rules that say that bytes are not what they claim to be."""


class ModelError(RuleError):
    """A spec, a checkpoint or an exported model cannot be used as it was asked for."""

    def __init__(self, rule: str, message: str) -> None:
        """Name the `rule` (one of RULES); `message` says what was found, expected, and what to do."""
        assert rule in RULES
        super().__init__(rule, message)
