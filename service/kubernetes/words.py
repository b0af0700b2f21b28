"""Every label and annotation that we write or read, in one place, and what it is for."""

# Ours -----------------------------------------------------------------------------------------------------------------
JOB = "vishwamai.dev/job"
"""Label: the job's id. Selects everything that belongs to a job."""
LAUNCH = "vishwamai.dev/launch"
"""Label: number of the attempt that a JobSet begins with; a job that was retried has several JobSets."""
NAME = "vishwamai.dev/name"
"""Annotation: the job's name as its owner wrote it, in any language."""
CONFIG_HASH = "vishwamai.dev/config-hash"
"""Annotation: sha256 of resolved.json, so that an object made from another config is told apart."""

# Kubernetes' recommended ones -----------------------------------------------------------------------------------------
APP = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"
MANAGED_BY = "app.kubernetes.io/managed-by"
HOST_INDEX = "batch.kubernetes.io/job-completion-index"
"""Annotation of an Indexed Job's pod: the host's number within its slice."""
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
"""Annotation: "false" keeps the autoscaler from emptying a node that trains."""

# JobSet's -------------------------------------------------------------------------------------------------------------
SLICE_INDEX = "jobset.sigs.k8s.io/job-index"
SLICES = "jobset.sigs.k8s.io/replicatedjob-replicas"
COORDINATOR = "jobset.sigs.k8s.io/coordinator"
RESTARTS = "jobset.sigs.k8s.io/restart-attempt"
"""Label of a pod: how often its JobSet has been restarted."""
EXCLUSIVE = "alpha.jobset.sigs.k8s.io/exclusive-topology"
"""Annotation: one Job of the set for each value of this node label, and nothing else there."""

# GKE's ----------------------------------------------------------------------------------------------------------------
ACCELERATOR = "cloud.google.com/gke-tpu-accelerator"
TOPOLOGY = "cloud.google.com/gke-tpu-topology"
NODE_POOL = "cloud.google.com/gke-nodepool"
"""A multi-host slice is one node pool."""
SPOT = "cloud.google.com/gke-spot"
FLEX_START = "cloud.google.com/gke-flex-start"
RESERVATION = "cloud.google.com/reservation-name"
RESERVATION_AFFINITY = "cloud.google.com/reservation-affinity"
COMPUTE_CLASS = "cloud.google.com/compute-class"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
"""Tells the one machine of eight v5e chips from the two of four, which have the same topology 2x4."""
TPU = "google.com/tpu"
"""Resource, and taint of its nodes: TPU chips."""
GCS_FUSE = "gke-gcsfuse/volumes"
"""Annotation: GKE puts the sidecar that mounts buckets into the pod."""
GCS_FUSE_DRIVER = "gcsfuse.csi.storage.gke.io"

# Kueue's --------------------------------------------------------------------------------------------------------------
QUEUE = "kueue.x-k8s.io/queue-name"
"""Label: Kueue suspends what has it until there is quota."""
