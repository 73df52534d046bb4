// Tiles: the feature maps of a layer, of which only those in sight are asked for.

const MOST_WITHOUT_ROOM = 64; // tiles that count as visible before the browser has told which are

class Tiles {
  /** `onpick(channel)` is called when a map is chosen, `onsight()` when others come into sight. */
  constructor(onpick, onsight) {
    this.onpick = onpick;
    this.onsight = onsight;
    this.element = h("div", { class: "lv-tiles", role: "listbox", "aria-label": "Feature maps" });
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.visible = new Set();
    this.tiles = [];
    this.chosen = -1;
    this.observer = typeof IntersectionObserver === "undefined" ? null : new IntersectionObserver(
      (entries) => this.seen(entries), { rootMargin: "80px" });
  }

  /** Make a tile for each channel of a layer. */
  reset(num) {
    this.observer?.disconnect();
    this.tiles = Array.from({ length: num }, (_, channel) => {
      const canvas = h("canvas", { "aria-hidden": "true" });
      const caption = h("span", { class: "lv-caption" }, String(channel));
      const tile = h("div", {
        class: "lv-tile", role: "option", "aria-selected": "false", "data-channel": channel,
        tabindex: channel ? -1 : 0, "aria-label": `map ${channel}`, onclick: () => this.pick(channel),
        onfocus: () => this.name(channel), onpointerenter: () => this.name(channel),
      }, canvas, caption);
      return { tile, canvas, channel, limits: [0, 0] };
    });
    this.chosen = -1;
    this.visible = new Set(this.tiles.slice(0, MOST_WITHOUT_ROOM).map(({ channel }) => channel));
    this.element.replaceChildren(...this.tiles.map(({ tile }) => tile));
    for (const { tile } of this.tiles) this.observer?.observe(tile);
  }

  seen(entries) {
    let more = false;
    for (const { target, isIntersecting } of entries) {
      const channel = Number(target.dataset.channel);
      if (isIntersecting && !this.visible.has(channel)) more = true;
      if (isIntersecting) this.visible.add(channel);
      else this.visible.delete(channel);
    }
    if (more) this.onsight();
  }

  /** Channels whose maps are shown now: those in sight, and the chosen one. */
  channels() {
    const wanted = new Set(this.visible);
    if (this.chosen >= 0) wanted.add(this.chosen);
    return [...wanted].sort((a, b) => a - b);
  }

  paint(channels, limits, [rows, columns], levels) {
    channels.forEach((channel, index) => {
      const shown = this.tiles[channel];
      if (!shown) return;
      const own = levels.subarray(index * rows * columns, (index + 1) * rows * columns);
      Object.assign(shown, { limits: limits[index], levels: own, rows, columns });
      paintLevels(shown.canvas, own, rows, columns, limits[index]);
    });
  }

  /** Say the limits of a map, when somebody looks at it. */
  name(channel) {
    const { tile, limits: [low, high] } = this.tiles[channel];
    tile.title = `map ${channel}: ${shortNumber(low)} to ${shortNumber(high)}`;
    tile.setAttribute("aria-label", tile.title);
  }

  /** Arrange tiles by number, or by strength, the strongest first. */
  order(strengths) {
    if (!strengths && !this.sorted) return;
    this.sorted = Boolean(strengths);
    const sorted = [...this.tiles];
    if (strengths) sorted.sort((a, b) => strengths[b.channel] - strengths[a.channel] || a.channel - b.channel);
    const same = sorted.every(({ tile }, index) => this.element.children[index] === tile);
    if (!same) this.element.replaceChildren(...sorted.map(({ tile }) => tile));
  }

  pick(channel) {
    for (const { tile, channel: own } of this.tiles) {
      tile.setAttribute("aria-selected", String(own === channel));
      tile.tabIndex = own === channel ? 0 : -1;
    }
    this.chosen = channel;
    this.onpick(channel);
  }

  key(event) {
    const tiles = [...this.element.children];
    const place = tiles.indexOf(document.activeElement ?? event.target);
    const at = place < 0 ? tiles.indexOf(event.target) : place;
    const across = Math.max(1, tiles.filter((tile) => tile.offsetTop === tiles[0]?.offsetTop).length);
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across };
    if (event.key in moves) {
      const next = tiles[clamp(at + moves[event.key], 0, tiles.length - 1)];
      next.focus();
      event.preventDefault();
    } else if (event.key === "Enter" || event.key === " ") {
      this.pick(Number(tiles[at].dataset.channel));
      event.preventDefault();
    }
  }
}
