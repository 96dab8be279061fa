"""Training of generators from a configuration."""
