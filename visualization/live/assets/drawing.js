// A drawing: an image of numbers with strokes, cut and paste, undo and redo.

const MOST_UNDONE = 2 ** 25; // numbers in all images that can be brought back

class Drawing {
  constructor([channels, rows, columns], low, high) {
    Object.assign(this, { channels, rows, columns, low, high });
    this.size = rows * columns;
    this.values = new Float32Array(channels * this.size).fill(low);
    this.past = [];
    this.future = [];
    this.clip = null;
    this.stroke = null;
  }

  /** Replace the image; it can be undone. */
  set(values) {
    this.remember();
    this.values.set(values);
  }

  remember() {
    this.past.push(this.values.slice());
    this.future = [];
    const most = Math.max(1, Math.floor(MOST_UNDONE / this.values.length));
    if (this.past.length > most) this.past.shift();
  }

  undo() {
    return this.move(this.past, this.future);
  }

  redo() {
    return this.move(this.future, this.past);
  }

  move(from, to) {
    if (!from.length) return false;
    to.push(this.values.slice());
    this.values.set(from.pop());
    return true;
  }

  /** Begin a stroke at a place (x, y) in pixels, with a round brush of a radius. */
  begin(x, y, radius, ink) {
    this.remember();
    this.stroke = { base: this.values.slice(), cover: new Float32Array(this.size), radius, ink, x, y };
    this.to(x, y);
  }

  /** Draw on to a place. No pixel is covered twice in one stroke. */
  to(x, y) {
    const { base, cover, radius, ink, x: fromX, y: fromY } = this.stroke;
    const reach = radius + 1;
    const [left, right] = this.span(Math.min(x, fromX), Math.max(x, fromX), reach, this.columns);
    const [top, bottom] = this.span(Math.min(y, fromY), Math.max(y, fromY), reach, this.rows);
    const length = (x - fromX) ** 2 + (y - fromY) ** 2;
    for (let row = top; row < bottom; row += 1) {
      for (let column = left; column < right; column += 1) {
        const alongX = column + 0.5 - fromX, alongY = row + 0.5 - fromY;
        const share = length && clamp((alongX * (x - fromX) + alongY * (y - fromY)) / length, 0, 1);
        const distance = Math.hypot(alongX - share * (x - fromX), alongY - share * (y - fromY));
        const amount = clamp(radius + 0.5 - distance, 0, 1), place = row * this.columns + column;
        if (amount <= cover[place]) continue;
        cover[place] = amount;
        for (let channel = 0; channel < this.channels; channel += 1) {
          const index = channel * this.size + place;
          this.values[index] = base[index] + (ink[channel] - base[index]) * amount;
        }
      }
    }
    Object.assign(this.stroke, { x, y });
  }

  span(low, high, reach, size) {
    return [clamp(Math.floor(low - reach), 0, size), clamp(Math.ceil(high + reach), 0, size)];
  }

  end() {
    this.stroke = null;
  }

  /** Copy a region {left, top, right, bottom}; with `cut`, what is there becomes paper. */
  copy({ left, top, right, bottom }, cut) {
    const rows = bottom - top, columns = right - left;
    const values = new Float32Array(this.channels * rows * columns);
    if (cut) this.remember();
    for (let channel = 0; channel < this.channels; channel += 1) {
      for (let row = 0; row < rows; row += 1) {
        const begin = channel * this.size + (top + row) * this.columns + left;
        values.set(this.values.subarray(begin, begin + columns), (channel * rows + row) * columns);
        if (cut) this.values.fill(this.low, begin, begin + columns);
      }
    }
    this.clip = { values, rows, columns };
  }

  /** Paste what was copied with its middle at a place; what lies outside is lost. */
  paste(x, y) {
    if (!this.clip) return false;
    const { values, rows, columns } = this.clip;
    const top = Math.round(y - rows / 2), left = Math.round(x - columns / 2);
    this.remember();
    for (let channel = 0; channel < this.channels; channel += 1) {
      for (let row = Math.max(0, -top); row < Math.min(rows, this.rows - top); row += 1) {
        for (let column = Math.max(0, -left); column < Math.min(columns, this.columns - left); column += 1) {
          const to = channel * this.size + (top + row) * this.columns + left + column;
          this.values[to] = values[(channel * rows + row) * columns + column];
        }
      }
    }
    return true;
  }

  /** The image as bytes from 0 to 255. */
  bytes(values = this.values) {
    const scale = 255 / ((this.high - this.low) || 1);
    return Uint8ClampedArray.from(values, (value) => (value - this.low) * scale);
  }
}
