"""Who said what: messages, handshake, peers, sync. Knows no validity rule. Sans-IO."""
