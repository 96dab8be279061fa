"""The entropy prior of scalar latents: what was decoded before says what to expect next."""
