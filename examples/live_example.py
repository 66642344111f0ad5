"""From the microphone to the headphones for ten seconds, printing the statistics each second.

python examples/live_example.py [INPUT OUTPUT]        # names as `rtdenoise devices` lists them, or parts of them
"""

import sys
import time

import rtdenoise

source, target = [*sys.argv[1:], None, None][:2]

with rtdenoise.LiveDenoiser(source, target, strength_db=18) as live:
    for second in range(10):
        time.sleep(1)
        stats = live.stats()
        print(
            f"latency {stats.measured_latency_ms:.1f} of {stats.latency_ms:.1f} ms, "
            f"noise -{stats.reduction_db:.0f} dB, {stats.underruns} underruns, {stats.cpu_percent:.0f} % CPU"
        )
        live.bypass = second == 4  # One second passes unfiltered; the latency stays, so nothing jumps.
