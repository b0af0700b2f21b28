from tests.trainer.run.compiling import compile_once

__all__ = ["compile_once"]
