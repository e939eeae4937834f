"""What all verbs share: options, the error boundary, progress, and the run directory of a verb."""
