"""Live audio: devices in, devices out, a constant latency between them.

``session`` holds `LiveDenoiser`; ``ring`` shows the threads and the memory they share. PortAudio is imported on use
only.
"""
