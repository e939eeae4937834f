"""Methods that combine split and federated learning."""
