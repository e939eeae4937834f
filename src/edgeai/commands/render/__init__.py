"""Results as text on stdout and as HTML pages."""
