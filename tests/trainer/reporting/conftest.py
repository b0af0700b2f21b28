from tests.trainer.reporting.control_planes import planes

__all__ = ["planes"]
