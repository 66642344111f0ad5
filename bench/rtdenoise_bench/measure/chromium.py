"""What a page in Chromium records from the virtual microphone."""

from __future__ import annotations

import base64
import shutil

import numpy as np

from rtdenoise.errors import RtdenoiseError
from rtdenoise_bench.measure.correlation import RATE

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
NAME = "rtdenoise microphone"
RECORDER = """async ([name, rate, seconds]) => {
    await navigator.mediaDevices.getUserMedia({audio: true});  // Only then are devices named.
    const inputs = (await navigator.mediaDevices.enumerateDevices()).filter((d) => d.kind === "audioinput");
    const wanted = inputs.find((d) => d.label === name);
    if (!wanted) return {names: inputs.map((d) => d.label)};
    const raw = {echoCancellation: false, noiseSuppression: false, autoGainControl: false};
    const stream = await navigator.mediaDevices.getUserMedia({audio: {deviceId: {exact: wanted.deviceId}, ...raw}});
    const context = new AudioContext({sampleRate: rate});
    const processor = context.createScriptProcessor(4096, 1, 1);
    const pieces = [];
    const whole = new Promise((done) => {
        processor.onaudioprocess = (e) => {
            pieces.push(e.inputBuffer.getChannelData(0).slice());
            if (pieces.length * 4096 >= rate * seconds) done();
        };
    });
    context.createMediaStreamSource(stream).connect(processor);
    processor.connect(context.destination);
    await whole;
    const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
    let text = "";
    for (let k = 0; k < bytes.length; k += 32768) text += String.fromCharCode(...bytes.subarray(k, k + 32768));
    return {names: inputs.map((d) => d.label), sound: btoa(text)};
}"""


def in_a_page(env: dict[str, str], seconds: float) -> np.ndarray:
    """What a page records, float32 ``[samples]``, with the browser's own processing off; needs Playwright.

    Raises `RtdenoiseError` where the browser does not list the microphone.
    """
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER, args=arguments, ignore_default_args=["--mute-audio"], env=dict(env)
        )
        page = browser.new_page()
        page.route("**/*", lambda route: route.fulfill(content_type="text/html", body="<p>a page"))
        page.goto("http://localhost/")
        found = page.evaluate(RECORDER, [NAME, RATE, seconds])
        browser.close()
    if NAME not in found["names"]:
        raise RtdenoiseError(f"Chromium does not list {NAME}; it lists {', '.join(found['names'])}")
    return np.frombuffer(base64.b64decode(found["sound"]), "<f4")
