from tests.trainer.reporting.control_planes import planes
from tests.trainer.run.compiling import compile_once

__all__ = ["compile_once", "planes"]
