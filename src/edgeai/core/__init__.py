"""What at least two areas use: errors, configs, runs, metrics, device, seed, assets."""
