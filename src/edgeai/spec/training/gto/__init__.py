"""Group Tree Optimization: rewards of draft trees, rollouts, and the group objective."""
