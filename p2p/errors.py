"""The two ways to break the wire protocol: we did, or the peer did.

A `RemoteProtocolError` ends the connection; its rule is a stable slug, its message says what was found and expected.
"""

from chain.errors import MathesisError, RuleError


class LocalProtocolError(MathesisError):
    """The caller asked a connection for what its state does not allow; a bug on this side, refused before any byte."""


class RemoteProtocolError(RuleError):
    """The peer sent what no honest peer sends."""


class HandshakeRefused(RemoteProtocolError):
    """The peer did not show that it is another node of this network at the other end of this TLS session."""
