from tests.trainer.stores import gcs_endpoint, gs, s3, s3_endpoint, store

__all__ = ["gcs_endpoint", "gs", "s3", "s3_endpoint", "store"]
