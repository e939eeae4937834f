"""Reports of the spec verbs as blocks, for the terminal and HTML pages."""
