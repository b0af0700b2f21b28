"""The hardware asked for, and how devices form a mesh."""

from typing import Literal

from pydantic import Field

from vishwamai.contract.base import Section

DeviceStrategy = Literal["data_parallel", "fsdp", "model_parallel", "sequence_parallel"]


GKE_NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
"""A name of one DNS label, as Kubernetes and Compute Engine want it."""


class MeshSection(Section):
    """Devices along each mesh axis; they multiply to the JAX devices. An axis not given is chosen by resolution."""

    data: int | None = Field(
        None, ge=1, le=1_048_576, description="Copies of the model, each on its own share of the batch."
    )
    fsdp: int | None = Field(
        None, ge=1, le=1_048_576, description="Devices that split batch, weights and optimizer state."
    )
    sequence: int | None = Field(
        None, ge=1, le=1_048_576, description="Devices that split the sequence (context parallel)."
    )
    model: int | None = Field(None, ge=1, le=1_048_576, description="Devices that split heads, MLP and vocabulary.")


class TpuSection(Section):
    """The TPU slice asked for."""

    accelerator: str | None = Field(
        None,
        examples=["v3", "v4", "v5e", "v5p", "v6e", "tpu7x", "tpu-v6e-slice"],
        description="TPU generation: v3, v4, v5e, v5p, v6e, tpu7x, or GKE's label for it. Absent: what fits the rest.",
    )
    tpu_cores: int = Field(
        8,
        ge=1,
        le=1_048_576,
        description="Number of TPU cores: read as JAX devices, TensorCores or chips, in this order; see decisions.",
    )
    tpu_topology: str = Field(
        "2x2x2",
        pattern=r"^[1-9][0-9]{0,3}(x[1-9][0-9]{0,3}){1,2}$",
        examples=["2x4", "2x2x2"],
        description="Chips along each side of the slice.",
    )
    num_slices: int = Field(1, ge=1, le=4096, description="Identical slices joined over the data-centre network.")
    spot: bool = Field(False, description="Use spot capacity, which may be taken back at any time.")
    flex_start: bool = Field(
        False, description="Wait for capacity that is lent for at most seven days (GKE flex-start); not on v3 and v4."
    )
    reservation: str | None = Field(
        None, pattern=GKE_NAME, max_length=63, description="Use the capacity of this Compute Engine reservation."
    )
    compute_class: str | None = Field(
        None, pattern=GKE_NAME, max_length=63, description="GKE ComputeClass that provides the nodes."
    )
    device_strategy: DeviceStrategy = Field(
        "data_parallel", description="What the devices are for where mesh_shape does not say."
    )
    use_bfloat16: bool = Field(True, description="Compute in bfloat16.")
    mesh_shape: MeshSection | None = Field(
        None, description="Devices along each mesh axis. Absent: device_strategy decides."
    )
