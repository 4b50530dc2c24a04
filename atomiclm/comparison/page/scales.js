// Numbers of the curves: from the page, in words, on round ticks, and as pixels.

const data = JSON.parse(document.querySelector("#curve-data")?.textContent ?? '{"arms": []}');
const UNITS = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

function short(value) {
  const [size, unit] = UNITS.find(([size]) => Math.abs(value) >= 0.9995 * size) ?? [1, ""];
  return `${Number((value / size).toPrecision(3))}${unit}`.replace("-", "\u2212");
}

function ticks(low, high, log, count) {
  if (log && high / low > 2.5) {
    for (const factors of [[1], [1, 3], [1, 2, 5], [1, 2, 3, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9]]) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
        for (const factor of factors) found.push(factor * 10 ** power);
      const inside = found.filter((tick) => tick >= low && tick <= high);
      if (inside.length >= 3) return inside.filter((_, index) => index % Math.ceil(inside.length / (count + 1)) === 0);
    }
  }
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const distance = (size) => Math.abs(Math.log(size / rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).reduce((a, b) => (distance(b) < distance(a) ? b : a));
  const found = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high * (1 + 1e-12); index++) found.push(index * step);
  return found;
}

function scale(low, high, start, end, log) {
  const place = log ? Math.log : (value) => value;
  const [from, to] = [place(low), place(high)];
  const toPixel = (value) => start + ((place(value) - from) / (to - from)) * (end - start);
  toPixel.at = (pixel) => {
    const value = from + ((pixel - start) / (end - start)) * (to - from);
    return log ? Math.exp(value) : value;
  };
  return toPixel;
}

// Mean and range over the seeds that ended, computed here from the seeds, so that the page carries each number once.
function summarize(curve) {
  const ended = curve.values.slice(0, curve.ended);
  const over = (choose) => curve.x.step.map((_, index) => {
    const column = ended.map((seed) => seed[index]);
    return !column.length || column.includes(null) ? null : choose(column);
  });
  curve.mean = over((column) => column.reduce((sum, value) => sum + value, 0) / column.length);
  curve.low = over((column) => Math.min(...column));
  curve.high = over((column) => Math.max(...column));
}
for (const arm of data.arms) Object.values(arm.curves).forEach(summarize);
