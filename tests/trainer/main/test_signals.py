import signal
import subprocess
import sys

import pytest

SLEEPER = """
import sys, time
from trainer.orders import Ordered, Orders
from trainer.signals import Signals
orders = Orders()
with Signals(orders):
    print("ready", flush=True)
    try:
        orders.wait_for(lambda: time.sleep(600))
    except Ordered as order:
        print("ending:", order, flush=True)
    {afterwards}
"""


def start(afterwards):
    script = SLEEPER.format(afterwards=afterwards)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert next_line(process) == "ready\n"
    return process


def next_line(process):
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_for_an_end_while_the_main_thread_waits(number):
    process = start("pass")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert out == f"ending: Stopped by {number.name}\n"
    assert err == ""


def test_the_second_signal_ends_the_process_at_once():
    process = start("time.sleep(600)")
    process.send_signal(signal.SIGTERM)
    assert next_line(process) == "ending: Stopped by SIGTERM\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 73
    assert err == "second signal (SIGINT): ending at once, without saving\n"
