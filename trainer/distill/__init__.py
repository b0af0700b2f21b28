"""Learning from a teacher: finding and loading it, and the loss of a step that follows it."""
