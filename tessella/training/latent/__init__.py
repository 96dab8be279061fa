"""Training of scalar latents together with their prior, for rate and distortion."""
