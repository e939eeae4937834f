"""Training of draft heads: token losses over unrolled draft steps, optimizers, and data-parallel runs."""
