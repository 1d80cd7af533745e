import os
import signal
import subprocess
import sys
from pathlib import Path

from streams.local import LocalKafka
from tests.support.kafka import make_topics
from tests.support.workers import ROOT

PROGRAM = """
import os, signal, sys, threading
from streams import topics
from streams.errors import Fenced
from streams.kafka.writer import Writer
from streams.record import Output

bootstrap, topic, pid = sys.argv[1:]
writer = Writer({"bootstrap.servers": bootstrap, "message.timeout.ms": 3000, "transaction.timeout.ms": 3000}, "w", topics.QUIET)
writer.open()
writer.write([Output(topic, b"k", b"v")])
os.kill(int(pid), signal.SIGKILL)
threading.Timer(8, setattr, (writer, "stopping", True)).start()
try:
    writer.write([Output(topic, b"k", b"v")])
except Fenced:
    print("fenced", flush=True)
writer.close()
print("closed", flush=True)
"""


def test_a_writer_that_is_told_to_stop_while_its_broker_is_dead_lets_go(tmp_path: Path) -> None:
    """In a process of its own: librdkafka, waiting for ever, would stop every thread of this one."""
    with LocalKafka.start(tmp_path / "kafka") as kafka:
        topic = make_topics(kafka.bootstrap, {"t": 1})["t"]
        command = [sys.executable, "-c", PROGRAM, kafka.bootstrap, topic, str(kafka.pid)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                out, _ = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                out, _ = process.communicate()
    assert out.split() == ["fenced", "closed"], out
    assert process.returncode == 0
