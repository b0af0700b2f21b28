"""Jobs as objects of a Kubernetes cluster."""
