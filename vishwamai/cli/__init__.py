"""The `vishwamai` command."""
