// Spectrograms that scroll: a byte a row, lowest frequency first, one column every sixtieth of a second.

export const ROWS = 80;

const stops = [[5, 8, 15], [36, 18, 84], [120, 28, 109], [196, 60, 78], [241, 127, 55], [252, 235, 165]];
const colours = Uint32Array.from({ length: 256 }, (_, value) => {
  const at = Math.max(0, (value - 40) / 215) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
  const [r, g, b] = stops[low].map((from, i) => Math.round(from + (stops[low + 1][i] - from) * (at - low)));
  return (255 << 24) | (b << 16) | (g << 8) | r; // as the pixels of a canvas lie in memory on every usual machine
});

export class Picture {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.context.fillRect(0, 0, canvas.width, canvas.height);
  }

  add(columns) {
    const count = Math.min(columns.length / ROWS, this.canvas.width);
    if (!count) return;
    const skipped = columns.length / ROWS - count;
    const image = new ImageData(count, ROWS), pixels = new Uint32Array(image.data.buffer);
    for (let x = 0; x < count; x++)
      for (let row = 0; row < ROWS; row++)
        pixels[(ROWS - 1 - row) * count + x] = colours[columns[(skipped + x) * ROWS + row]];
    this.context.drawImage(this.canvas, -count, 0);
    this.context.putImageData(image, this.canvas.width - count, 0);
  }
}
