"use strict";
// The page works without this: the text is coloured and has titles, tables and maps are all there. Here are the panel
// of the token that is pointed at, the head that is looked at large, and the switch of light and dark.
// Nothing is ever put into the page as markup, only as text: the text read is not ours to trust.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  document.querySelector("#theme").addEventListener("click", () => {
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
    drawLarge();
  });

  const { names, predictions, heads } = JSON.parse(document.querySelector("#data").textContent);
  const passage = document.querySelector("#passage");
  const panel = document.querySelector("#panel");
  const large = document.querySelector("#large");
  const spans = [...passage.querySelectorAll(".token")];
  for (const span of spans) span.removeAttribute("title");  // the panel says it
  const rows = new Map([...document.querySelectorAll(".lens tr[data-at]")].map((row) => [Number(row.dataset.at), row]));
  const images = new Map([...document.querySelectorAll(".maps img")].map((image) => [`${image.dataset.layer} ${image.dataset.head}`, image]));
  const all = heads.flatMap((count, layer) => Array.from({ length: count }, (_, head) => [layer, head]));
  const read = predictions.length;  // tokens that the model read: all but the last
  let chosen = null, held = false, shown = all[0] ?? null;

  // Weights of a head, from the opacities of its picture.
  const known = new Map();
  async function weightsOf([layer, head]) {
    const key = `${layer} ${head}`;
    if (!known.has(key)) {
      const image = images.get(key);
      await image.decode();
      const canvas = new OffscreenCanvas(read, read);
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      const pixels = context.getImageData(0, 0, read, read).data;
      known.set(key, Float32Array.from({ length: read * read }, (_, at) => (pixels[4 * at + 3] / 255) ** 2));
    }
    return known.get(key);
  }

  const percent = (share) => (share >= 0.0005 ? `${(100 * share).toFixed(1)} %` : "< 0.1 %");
  function element(name, text = "", className = "") {
    const made = document.createElement(name);
    made.textContent = text;
    if (className) made.className = className;
    return made;
  }
  function tableRow(...cells) {
    const row = element("tr");
    row.append(...cells);
    return row;
  }

  async function showToken() {
    const at = chosen;
    if (at === null) return;
    for (const span of spans) span.classList.toggle("chosen", Number(span.dataset.at) === at);
    for (const [number, row] of rows) row.classList.toggle("chosen", number === at);
    const title = element("h3");
    title.append(element("span", names[at], "token-name"), element("small", ` token ${at + 1} of ${names.length}`));
    const parts = [title];
    if (at > 0) {
      const [loss, rank, likeliest] = predictions[at - 1];
      const own = Math.exp(-loss);
      parts.push(element("p", `loss ${loss.toFixed(2)} nats, ${(loss / Math.LN2).toFixed(2)} bits; probability ${percent(own)}, rank ${rank}`));
      const table = element("table", "", "guesses");
      const guesses = rank <= likeliest.length ? likeliest : [...likeliest, [names[at], own]];
      guesses.forEach(([name, share], place) => {
        const bar = element("i");
        bar.style.width = `${100 * share}%`;
        const cell = element("td");
        cell.append(bar);
        const row = tableRow(element("td", name, "token-name"), cell, element("td", percent(share), "number"));
        if (place === Math.min(rank - 1, likeliest.length)) row.className = "right";
        table.append(row);
      });
      parts.push(element("h4", "Likeliest in its place"), table);
    } else {
      parts.push(element("p", "The first token is not predicted."));
    }
    if (at < read && all.length) parts.push(element("h4", "Where each head looks from it"), await headTable(at));
    if (at === read) parts.push(element("p", "The last token is only predicted.", "quiet"));
    if (at !== chosen) return;  // another token was pointed at meanwhile
    panel.replaceChildren(...parts);
    colour();
  }

  async function headTable(at) {
    const table = element("table");
    const most = Math.max(...heads);
    table.append(tableRow(element("th"), ...Array.from({ length: most }, (_, head) => element("th", `head ${head + 1}`))));
    for (const [layer, count] of heads.entries()) {
      const row = tableRow(element("th", `layer ${layer + 1}`));
      for (let head = 0; head < count; head += 1) {
        const weights = (await weightsOf([layer, head])).subarray(at * read, at * read + at + 1);
        let best = 0;
        weights.forEach((weight, place) => { if (weight > weights[best]) best = place; });
        const button = element("button", `${Math.round(100 * weights[best])}% ${names[best]}`);
        button.type = "button";
        button.title = `most at ${names[best]}, token ${best + 1}: ${percent(weights[best])}`;
        button.setAttribute("aria-pressed", shown[0] === layer && shown[1] === head);
        button.addEventListener("click", () => { document.querySelector("input[value=attention]").checked = true; choose([layer, head]); });
        const cell = element("td");
        cell.append(button);
        row.append(cell);
      }
      if (!count) row.append(element("td", "no weights"));
      table.append(row);
    }
    const scrolls = element("div", "", "scrolls");
    scrolls.append(table);
    return scrolls;
  }

  async function colour() {
    const looks = document.querySelector("input[name=colour]:checked").value === "attention" && shown !== null;
    passage.classList.toggle("looks", looks);
    if (!looks) return;
    const weights = await weightsOf(shown);
    spans.forEach((span, at) => {
      const seen = chosen !== null && chosen < read && at <= chosen;
      span.style.setProperty("--weight", seen ? Math.sqrt(weights[chosen * read + at]).toFixed(3) : "0");
    });
  }
  for (const input of document.querySelectorAll("input[name=colour]")) input.addEventListener("change", colour);

  function point(at) {
    if (at === chosen) return;
    chosen = at;
    showToken();
  }
  passage.addEventListener("pointerover", (event) => {
    const span = event.target.closest(".token");
    if (span && event.pointerType === "mouse" && !held) point(Number(span.dataset.at));
  });
  passage.addEventListener("click", (event) => {
    const span = event.target.closest(".token");
    if (!span) return;
    held = !(held && chosen === Number(span.dataset.at));
    point(Number(span.dataset.at));
  });
  passage.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      held = true;
      point(Math.min(names.length - 1, Math.max(0, (chosen ?? -1) + step)));
      event.preventDefault();
    } else if (event.key === "Escape") held = false;
  });

  // The chosen head, large.
  let field = null;
  async function drawLarge() {
    if (!field) return;
    const canvas = large.querySelector("canvas");
    canvas.width = canvas.height = read;
    canvas.getContext("2d").drawImage(images.get(shown.join(" ")), 0, 0);
  }
  async function choose(head) {
    shown = head;
    field = await weightsOf(head);
    const name = `layer ${head[0] + 1}, head ${head[1] + 1}`;
    document.querySelector("#head-name").textContent = name;
    large.hidden = false;
    large.querySelector("h3").textContent = name[0].toUpperCase() + name.slice(1);
    for (const [key, image] of images) image.classList.toggle("chosen", key === head.join(" "));
    drawLarge();
    showToken();
    colour();
  }
  large.querySelector("canvas").addEventListener("pointermove", (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const place = (offset, size) => Math.min(read - 1, Math.max(0, Math.floor((offset / size) * read)));
    const [from, to] = [place(event.clientY - box.top, box.height), place(event.clientX - box.left, box.width)];
    const weight = to > from ? "cannot see" : `looks with ${percent(field[from * read + to])} at`;
    large.querySelector("p").textContent = `Token ${from + 1}, ${names[from]}, ${weight} token ${to + 1}, ${names[to]}.`;
    if (!held) point(from);
  });
  for (const image of images.values()) {
    image.addEventListener("click", () => {
      choose([Number(image.dataset.layer), Number(image.dataset.head)]);
      large.scrollIntoView({ block: "nearest" });
    });
  }

  if (shown) choose(shown);
  else document.querySelector(".bar fieldset").hidden = true;
  // Where there is room beside the text: the token that cost most, to begin with.
  if (matchMedia("(min-width: 860px)").matches) {
    point(1 + predictions.reduce((worst, one, at) => (one[0] > predictions[worst][0] ? at : worst), 0));
  }
})();
