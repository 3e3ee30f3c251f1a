"""What makes a run one that can be trusted: its identity, its record, its exact state."""
