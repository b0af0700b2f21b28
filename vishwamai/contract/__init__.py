"""What the service, the trainer and their users agree on. Imports pydantic and the standard library only."""
