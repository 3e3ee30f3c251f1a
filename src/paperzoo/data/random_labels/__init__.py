"""Images of which a share has random labels in training: what a network memorises."""
