"""From token vectors to logits: poolings, pair features and heads, three open rooms."""
