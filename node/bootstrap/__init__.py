"""Starting a node from a recent state that its peers hold, instead of replaying every block since genesis."""
