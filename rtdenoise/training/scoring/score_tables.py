"""What `evaluate` prints of one set of pairs, or of the mean of several, as Markdown tables.

Owns which scores are shown, under which headings, and which way is better. `comparison` says how systems differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rtdenoise.training.scoring.residue import BANDS_HZ, KEPT, OF_VOICE, PAUSES, SPEECH, band_key

Results = dict[str, dict[str, Any]]  # by system, as `scoring.evaluate` gives them
PLACES = {"stoi": 3, "estoi": 3}  # The decimals shown; figures in dB have one, all others two.
COLUMNS = {  # score -> heading
    "pesq_wb": "PESQ-WB",
    "pesq_nb": "PESQ-NB",
    "stoi": "STOI",
    "estoi": "ESTOI",
    "si_sdr": "SI-SDR",
    "si_sdr_80hz": "SI-SDR 80 Hz",
    "ssnr": "SSNR",
    "lsd": "LSD",
    "csig": "CSIG",
    "cbak": "CBAK",
    "covl": "COVL",
    "covl_80hz": "COVL 80 Hz",
}
OPINIONS = {"sig": "SIG", "bak": "BAK", "ovrl": "OVRL"}  # The columns of `dnsmos`, where it was requested.
WATCH = {
    band_key(PAUSES, 0): "noise left in pauses < 150 Hz",
    PAUSES: "noise left in pauses > 150 Hz",
    band_key(SPEECH, 0): "noise left under speech < 150 Hz",
    SPEECH: "noise left under speech > 150 Hz",
    KEPT: "speech kept > 150 Hz",
}
IN_DB = {"si_sdr", "si_sdr_80hz", *WATCH}
LESS_IS_BETTER = {"lsd", *WATCH} - {KEPT}


def as_markdown(results: Results) -> str:
    """Tables of every system: the scores, some of them by SNR, noise left and speech kept, and what else was asked."""
    tables = [_scores(results), _by_snr(results), _watch(results), _bands(results), _others(results)]
    return "\n".join(tables)


def mean_of_sets(sets: list[Results]) -> Results:
    """The systems' scores on several sets as one: means of the sets' means, however many pairs each has; counts are
    sums. What a set lacks has no mean."""
    return {
        system: {
            **{kind: _mean_of([s[system][kind] for s in sets]) for kind in ("mean", "median", "probes")},
            "by_snr": {
                snr: _mean_of([s[system]["by_snr"][snr] for s in sets])
                for snr in sets[0][system]["by_snr"]
                if all(snr in s[system]["by_snr"] for s in sets)
            },
            "worse_than_noisy": {
                k: sum(s[system]["worse_than_noisy"][k] for s in sets) for k in sets[0][system]["worse_than_noisy"]
            },
            "pairs": {(k, pair): row for k, s in enumerate(sets) for pair, row in s[system]["pairs"].items()},
        }
        for system in sets[0]
    }


def _mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    return {k: float(np.mean([row[k] for row in rows])) for k in rows[0] if all(k in row for row in rows)}


def table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def places(key: str) -> int:
    return 1 if key in IN_DB else PLACES.get(key, 2)


def _cell(row: dict[str, float], key: str) -> str:
    return f"{row[key]:.{places(key)}f}" if key in row else "-"


def _scores(results: Results) -> str:
    opinions = {k: v for k, v in OPINIONS.items() if any(k in r["mean"] for r in results.values())}
    columns = COLUMNS | opinions
    return table(
        ["system", *columns.values()],
        [[name, *(_cell(r["mean"], k) for k in columns)] for name, r in results.items()],
    )


def _by_snr(results: Results) -> str:
    snrs = list(next(iter(results.values()))["by_snr"])
    shown = [(k, s) for k in ("pesq_wb", "si_sdr_80hz", "estoi") for s in snrs]
    return table(
        ["system", *(f"{COLUMNS[k]} at {s} dB" for k, s in shown)],
        [[name, *(_cell(r["by_snr"][s], k) for k, s in shown)] for name, r in results.items()],
    )


def _watch(results: Results) -> str:
    """The last row is the clean side's, the least that an output with the whole voice can leave."""
    means = {name: r["mean"] for name, r in results.items()}
    first = next(iter(means.values()))
    voice = {k: first[k + OF_VOICE] for k in WATCH if k + OF_VOICE in first}
    return table(
        ["system, means in dB", *WATCH.values()],
        [[name, *(_cell(row, k) for k in WATCH)] for name, row in (*means.items(), ("the clean voice itself", voice))],
    )


def _bands(results: Results) -> str:
    """Medians of the noise left, for a pair may have next to no noise in a band; means of the speech kept."""
    shown = {PAUSES: ("median", "noise left in pauses"), SPEECH: ("median", "under speech"), KEPT: ("mean", "kept")}
    rows = []
    for name, r in results.items():
        cells = []
        for what, (kind, _) in shown.items():
            cells.append(" / ".join(_cell_whole(r[kind], band_key(what, b)) for b in range(len(BANDS_HZ))))
        rows.append([name, *cells])
    edges = "dB by band, up to " + " / ".join(f"{high}" for _, high in BANDS_HZ) + " Hz"
    return table([edges, *(f"{title} ({kind})" for kind, title in shown.values())], rows)


def _cell_whole(row: dict[str, float], key: str) -> str:
    digits = 1 if key.startswith(KEPT) else 0
    return f"{row[key]:.{digits}f}" if key in row else "-"


def _others(results: Results) -> str:
    lowest = next(iter(next(iter(results.values()))["by_snr"]), "the lowest SNR's")
    rows = []
    for name, r in results.items():
        mean, worse, probe = r["mean"], r["worse_than_noisy"], r["probes"]
        of = lambda form, *keys, row=mean | probe: form.format(*(row[k] for k in keys)) if {*keys} <= {*row} else "-"
        rows.append(
            [
                name,
                f"{worse['estoi']} / {worse['si_sdr_80hz']} of {len(r['pairs'])}",
                f"{r['by_snr'][lowest]['gain_db']:.1f} dB" if lowest in r["by_snr"] else "-",
                of("{:.1f} dB / {:.2f}", "clean_in_si_sdr_80hz", "clean_in_pesq"),
                of("{:.1f} dB / {:.2f}", "reverberant_in_si_sdr_80hz", "reverberant_in_pesq"),
                of("{:.0f} / {:.0f} / {:.0f} dB", "noise_in_db", "white_db", "fan_db"),
                of("{:.1f} / {:.1f} dB", "gain_8k_db", "gain_16k_db"),
                of("{:.2f} ({:.2f})", "lsd_8_20k", "lsd_8_20k_noisy"),
                of("{:.2f} ({:.2f})", "si_sdr_48k", "si_sdr_48k_noisy"),
                f"{mean['rtf']:.3f}",
            ]
        )
    titles = [
        "system",
        "worse than noisy, ESTOI / SI-SDR 80 Hz",
        f"gain on the clean part at {lowest} dB",
        "clean in: SI-SDR 80 Hz / PESQ-WB",
        "reverberant clean in: the same",
        "noise alone, attenuation: pairs / white / fan",
        "SI-SDR 80 Hz gained at 8 / 16 kHz",
        "LSD 8-20 kHz (noisy)",
        "SI-SDR at 48 kHz (noisy)",
        "RTF",
    ]
    return table(titles, rows)
