"""Several processes that train as one: each drives its own devices, and together they are one mesh."""

import logging

from vishwamai.contract.environment import TrainerEnvironment

_LOG = logging.getLogger(__name__)


def join(where: TrainerEnvironment) -> None:
    """Meets the attempt's other processes at the coordinator, process 0; alone, does nothing.

    Must run before JAX makes its devices. Returns when all are there; jax.distributed raises after five minutes.
    """
    if where.processes == 1:
        return
    import jax

    # JAX's own answer to SIGTERM would take the place of ours (trainer/signals.py).
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        coordinator_address=where.coordinator, num_processes=where.processes, process_id=where.process
    )


def leave_together(where: TrainerEnvironment) -> None:
    """Waits until all processes have come here, so that nobody loses the coordinator while at work.

    For ends that all agree on; a process that ends on its own just goes.
    """
    if where.processes == 1:
        return
    import jax

    try:
        jax.distributed.shutdown()
    except Exception as error:  # all is said and saved; another process did not live to come here
        _LOG.warning("the other processes have not ended together with this one: %s", error)
