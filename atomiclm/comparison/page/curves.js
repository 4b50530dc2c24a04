// The chart of the curves and its legend.

class Curves {
  constructor(box, legend, controls) {
    Object.assign(this, { box, legend, controls, hidden: new Set(), cursor: null, scales: null });
    controls.addEventListener("change", () => this.draw());
    this.keys = [...legend.querySelectorAll("button")];
    this.keys.forEach((key, index) => {
      key.disabled = false;
      key.addEventListener("click", () => this.toggle(index));
    });
    // In a frame of its own: drawing changes the size that is being observed, which browsers report as an error.
    new ResizeObserver(() => requestAnimationFrame(() => {
      if (Math.abs(box.clientWidth - this.width) > 1) this.draw();
    })).observe(box);
    box.addEventListener("pointermove", (event) => this.point(event.clientX - box.getBoundingClientRect().left));
    box.addEventListener("pointerdown", (event) => this.point(event.clientX - box.getBoundingClientRect().left));
    box.addEventListener("pointerleave", () => this.point(null));
    box.addEventListener("keydown", (event) => this.step(event));
    box.tabIndex = 0;
    this.draw();
  }

  get choice() {
    const given = new FormData(this.controls);
    return { x: given.get("x"), y: given.get("y"), log: given.has("log"), seeds: given.has("seeds"), zoom: given.has("zoom") };
  }

  toggle(index) {
    if (!this.hidden.delete(index)) this.hidden.add(index);
    this.keys[index].setAttribute("aria-pressed", String(!this.hidden.has(index)));
    this.draw();
  }

  shown() {
    const { y } = this.choice;
    return data.arms.flatMap((arm, index) => (arm.curves[y] && !this.hidden.has(index) ? [{ arm, index, curve: arm.curves[y] }] : []));
  }

  draw() {
    const { x: axis, y: metric, log, seeds, zoom } = this.choice;
    const shown = this.shown();
    this.width = Math.max(240, this.box.clientWidth);
    const height = Math.min(420, Math.max(280, 0.6 * this.width));
    const names = this.width > 560 && shown.length <= 8 ? 104 : 0;  // room for names at the ends of the lines
    const area = { left: 50, right: this.width - 12 - names, top: 28, bottom: height - 42 };
    const chart = svg("svg", { width: this.width, height, viewBox: `0 0 ${this.width} ${height}`, role: "img", "aria-label": `${data.metrics[metric]} against ${data.axes[axis]}` });
    this.box.replaceChildren(chart);
    this.scales = null;
    if (!shown.length) {
      chart.append(svg("text", { x: this.width / 2, y: height / 2, "text-anchor": "middle", class: "tick" }, "nothing to draw: choose an arm"));
      return this.read();
    }
    const xs = shown.flatMap(({ curve }) => curve.x[axis]).filter((value) => value !== null && (!log || value > 0));
    let [first, last] = [Math.min(...xs), Math.max(...xs)];
    if (!log) first = 0;
    if (zoom) first = log ? last / 4 : (first + last) / 2;
    if (first === last) [first, last] = [0.5 * first, 1.5 * last || 1];
    const [low, high] = this.reach(shown, axis, first, last, seeds);
    const x = scale(first, last, area.left, area.right, log);
    const y = scale(low, high, area.bottom, area.top, false);
    this.scales = { x, y, area, first, last };
    this.frame(chart, { x, y, area, first, last, low, high, log, axis, metric });
    const clip = svg("clipPath", { id: "inside" });
    clip.append(svg("rect", { x: area.left, y: area.top - 4, width: area.right - area.left + 4, height: area.bottom - area.top + 4 }));
    const inside = svg("g", { "clip-path": "url(#inside)" });
    for (const item of [...shown].reverse()) inside.append(this.arm(item, x, y, axis, seeds, shown.length));
    if (names) this.names(chart, shown, y, area);
    this.mark = svg("g", { class: "cursor" });
    chart.append(clip, inside, this.mark);
    this.read();
  }

  // From the best value to what the worst arm had after a tenth of the way: the first steps would flatten all the rest.
  reach(shown, axis, first, last, seeds) {
    const found = [];
    for (const { curve } of shown) {
      const columns = seeds || !curve.ended ? curve.values : [curve.low, curve.high];
      const begin = Math.max(first, 0.1 * last);
      curve.x[axis].forEach((at, index) => {
        if (at !== null && at >= Math.min(begin, curve.x[axis].at(-1)) * 0.9999 && at <= last)
          for (const column of columns) if (column[index] !== null) found.push(column[index]);
      });
    }
    if (!found.length) return [0, 1];
    const [low, high] = [Math.min(...found), Math.max(...found)];
    const room = 0.05 * (high - low) || 0.05 * Math.abs(high) || 1;
    return [low - room, high + room];
  }

  frame(chart, { x, y, area, first, last, low, high, log, axis, metric }) {
    const vertical = ticks(low, high, false, 5);
    const decimals = Math.max(0, -Math.floor(Math.log10(vertical[1] - vertical[0] || 1) + 1e-9));
    for (const tick of vertical) {
      chart.append(svg("path", { d: `M${area.left} ${y(tick)}H${area.right}`, class: "grid" }));
      const text = tick.toFixed(decimals).replace("-", "\u2212");
      chart.append(svg("text", { x: area.left - 6, y: y(tick) + 4, "text-anchor": "end", class: "tick" }, text));
    }
    for (const tick of ticks(first, last, log, this.width < 500 ? 4 : 7)) {
      chart.append(svg("path", { d: `M${x(tick)} ${area.bottom}v4`, class: "axis" }));
      chart.append(svg("text", { x: x(tick), y: area.bottom + 17, "text-anchor": "middle", class: "tick" }, short(tick)));
    }
    chart.append(svg("path", { d: `M${area.left} ${area.bottom}H${area.right}`, class: "axis" }));
    chart.append(svg("text", { x: (area.left + area.right) / 2, y: area.bottom + 35, "text-anchor": "middle", class: "axis-name" }, data.axes[axis]));
    chart.append(svg("text", { x: 4, y: area.top - 12, class: "axis-name" }, data.metrics[metric]));
    if (!metric.endsWith("bits_per_byte")) return;
    for (const [name, value] of Object.entries(data.anchors)) {
      if (!(value > low && value < high)) continue;
      chart.append(svg("path", { d: `M${area.left} ${y(value)}H${area.right}`, class: "rule" }));
      chart.append(svg("text", { x: area.right - 2, y: y(value) - 4, "text-anchor": "end", class: "rule-name" }, name));
    }
  }

  // Each name as near to the end of its line as the names below it let it be.
  names(chart, shown, y, area) {
    const ends = shown.map(({ arm, curve }) => ({ arm, value: curve.mean.findLast((value) => value !== null) }));
    const placed = ends.filter(({ value }) => value !== undefined).sort((one, other) => one.value - other.value);
    let lowest = area.bottom;
    for (const { arm, value } of placed) {
      const at = Math.min(y(value) + 4, lowest);
      lowest = at - 13;
      const name = arm.name.length > 15 ? `${arm.name.slice(0, 7)}\u2026${arm.name.slice(-7)}` : arm.name;
      chart.append(svg("text", { x: area.right + 9, y: at, class: `end-name ${arm.hue}` }, name));
    }
  }

  arm({ arm, curve }, x, y, axis, seeds, count) {
    const group = svg("g", { class: arm.hue });
    group.append(svg("title", {}, arm.name));
    const at = curve.x[axis];
    const path = (xs, ys) => {
      let pen = "M";
      return xs.map((value, index) => {
        if (value === null || ys[index] === null || !isFinite(x(value))) { pen = "M"; return ""; }
        const drawn = `${pen}${x(value).toFixed(1)} ${y(ys[index]).toFixed(1)}`;
        pen = "L";
        return drawn;
      }).join("");
    };
    const whole = at.map((_, index) => index).filter((index) => curve.low[index] !== null && isFinite(x(at[index])));
    if (curve.ended > 1 && !seeds && whole.length) {
      const edge = (values) => (index) => `${x(at[index]).toFixed(1)} ${y(values[index]).toFixed(1)}`;
      const outline = [...whole.map(edge(curve.low)), ...[...whole].reverse().map(edge(curve.high))];
      const opacity = 0.14 * Math.min(1, 6 / count);  // many bands over each other would be a fog
      group.append(svg("path", { d: `M${outline.join("L")}Z`, class: "band", "fill-opacity": opacity }));
    }
    curve.values.forEach((values, seed) => {
      const diverged = seed >= curve.ended;
      if (!seeds && !diverged) return;
      const own = axis === "seconds" ? curve.seconds[seed] : at;
      group.append(svg("path", { d: path(own, values), class: "seed-line" }));
      const end = values.findLastIndex((value) => value !== null);
      if (diverged && end >= 0) group.append(svg("text", { x: x(own[end]), y: y(values[end]) + 4, "text-anchor": "middle", class: "diverged-end" }, "\u00d7"));
    });
    group.append(svg("path", { d: path(at, curve.mean), class: "curve", "stroke-dasharray": arm.dash }));
    if (whole.length <= 14) for (const index of whole) {
      const place = `translate(${x(at[index]).toFixed(1)} ${y(curve.mean[index]).toFixed(1)})`;
      group.append(svg("path", { d: arm.marker, transform: place, class: `marker ${arm.filling}` }));
    }
    return group;
  }

  // ------------------------------------------------------------------- reading values off: by pointer, finger or arrow key

  point(pixel) {
    if (!this.scales) return;
    const { x, area } = this.scales;
    this.cursor = pixel === null || pixel < area.left - 8 || pixel > area.right + 12 ? null : x.at(Math.min(Math.max(pixel, area.left), area.right));
    this.read();
  }

  step(event) {
    if (!this.scales || !["ArrowLeft", "ArrowRight", "Escape"].includes(event.key)) return;
    event.preventDefault();
    const { x, area, last } = this.scales;
    if (event.key === "Escape") return this.point(null);
    const pixel = x(this.cursor ?? last) + (event.key === "ArrowLeft" ? -1 : 1) * (area.right - area.left) / 50;
    this.point(Math.min(Math.max(pixel, area.left), area.right));
  }

  // Each arm's mean at the cursor, between its neighbours; without a cursor at the end of the arm's curve.
  value(curve, axis, at) {
    const xs = curve.x[axis];
    if (at === null) return curve.mean.findLast((value) => value !== null) ?? null;
    const right = xs.findIndex((value) => value !== null && value >= at);
    if (right < 0) return at <= xs.at(-1) * 1.0001 ? curve.mean.at(-1) : null;
    if (right === 0) return xs[0] <= at * 1.0001 ? curve.mean[0] : null;
    const [a, b] = [curve.mean[right - 1], curve.mean[right]];
    return a === null || b === null ? null : a + ((at - xs[right - 1]) / (xs[right] - xs[right - 1])) * (b - a);
  }

  read() {
    const { x: axis, y: metric } = this.choice;
    this.mark?.replaceChildren();
    const at = this.cursor;
    if (at !== null && this.scales) {
      const { x, area } = this.scales;
      this.mark.append(svg("path", { d: `M${x(at)} ${area.top}V${area.bottom}` }));
    }
    this.keys.forEach((key, index) => {
      const curve = data.arms[index].curves[metric];
      const value = curve && !this.hidden.has(index) ? this.value(curve, axis, at) : null;
      key.querySelector("output").textContent = value === null ? "" : value.toFixed(4);
      if (value !== null && at !== null && this.scales) {
        const { x, y, area } = this.scales;
        const up = y(value);
        if (up >= area.top && up <= area.bottom) this.mark.append(svg("circle", { cx: x(at), cy: up, r: 3.5, class: data.arms[index].hue }));
      }
    });
    const where = at === null ? "Mean over seeds at the end" : `Mean at ${short(at)} ${data.axes[axis]}`;
    document.querySelector("#curve-where").textContent = where;
  }
}

const box = document.querySelector("#curve-chart");
if (box) new Curves(box, document.querySelector("#curve-legend"), document.querySelector("#curve-controls"));
