"""Reports: described fields, blocks, plots and HTML pages."""
