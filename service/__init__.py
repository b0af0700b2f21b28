"""The control plane: HTTP API, job records, reconcile loop, launchers."""
