# SPDX-License-Identifier: Apache-2.0
"""One consumer process of the tap's benchmark: ``URL KIND MESSAGES``, prints JSON."""

import json
import sys
import threading
import time

import kombu
from oslo_config import cfg

from rbd_worker.triggers import broker, casts, tap

OURS, BARE = KINDS = ("rbd-worker's tap", "bare kombu consumer")
#: In the last message instead of the migration's UUID.
LAST = b"1a57" + b"0000-0000-0000-0000-000000000000"
PREFETCH = 100


def main() -> None:
    url, kind, messages = sys.argv[1], sys.argv[2], int(sys.argv[3])
    cpu, began = time.process_time(), time.perf_counter()
    consume = {OURS: _ours, BARE: _bare}[kind]
    consume(url, messages)
    print(json.dumps({"seconds": time.perf_counter() - began,
                      "cpu": time.process_time() - cpu}))


def _ours(url: str, messages: int) -> None:
    conf = cfg.ConfigOpts()
    broker.register(conf)
    conf(["--config-file", "/dev/null"])
    conf.set_override("transport_url", url)
    ended = threading.Event()

    def handler(body: bytes) -> None:
        casts.parse(body, host="bench")
        if LAST in body:
            ended.set()

    one = tap.Tap(broker.from_conf(conf), "bench", tap.TapOptions(prefetch=PREFETCH), handler)
    one.start()
    if messages:
        ended.wait(100)
    else:
        one.wait_hearing(20)
    one.stop()


def _bare(url: str, messages: int) -> None:
    with kombu.Connection(url.replace("rabbit://", "pyamqp://", 1)) as connection:
        channel = connection.channel()
        channel.basic_qos(0, PREFETCH, False)
        exchange = kombu.Exchange("nova", type="topic", durable=False)
        queue = kombu.Queue("bench-bare", exchange, "compute.bench", channel=channel,
                            durable=True, queue_arguments={"x-expires": 600_000})
        queue.declare()
        last = []

        def arrived(message: kombu.Message) -> None:
            message.ack()
            if LAST.decode() in message.body:
                last.append(True)

        with kombu.Consumer(channel, [queue], on_message=arrived, auto_declare=False):
            while messages and not last:
                connection.drain_events(timeout=60)


if __name__ == "__main__":
    main()
