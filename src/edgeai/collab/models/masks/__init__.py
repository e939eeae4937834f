"""Sources of class-agnostic masks: Segment Anything, a user-defined function, or none."""
