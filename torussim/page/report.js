// What moves on the page: figures, the time that is shown, the chips that are chosen, the theme, and copying.
// Data and figures come as JSON in the element "data"; what it has of timelines is described in torussim/page/lanes.py.
"use strict";
(async () => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const {SENT, seconds, tick, extent, rows} = lanesOf(data);
  window.torussim = {seconds: tick};

  const figures = Bokeh.require("document").Document.from_json(data.document);
  const named = (name) => figures.get_model_by_name(name);
  const time = named("time");

  // -- what is shown

  for (const run of data.timelines) {
    run.origins = {block: run.origin, pass: run.begin};
    run.chosen = run.places.map((_, i) => run.shown[i]);
    const often = {}; // by section: its runs so far
    run.numbers = run.runs.map(([segment]) => {
      const {section} = run.segments[segment];
      return often[section] = (often[section] || 0) + 1;
    });
    run.often = often;
    run.several = "block 2" in often;
  }
  let origin = "block";
  const start = (run) => run.origins[origin];

  const percent = (share) => `${(100 * share).toFixed(0)} %`;
  function draw() {
    const colours = theme();
    for (const run of data.timelines) run.places.forEach((place, i) => {
      const chip = run.chips[run.chosen[i]], zero = start(run), element = document.getElementById(place);
      const pixel = (time.end - time.start) / Math.max(200, element.clientWidth - 100);
      const [bars, names, hatched, shown, each] = rows(run, chip, time.start + zero, time.end + zero, pixel, zero);
      names.colour = names.colour.map((colour) => colour === "ink" ? colours.ink : colour);
      named(`${place}-bars`).data = bars;
      named(`${place}-names`).data = names;
      hatched.forEach((where, number) => { named(`${place}-hatch-${number}`).data = where; });
      const without = run.axes.length && shown.some((index) => chip.sent[run.runs[index][0]] === null);
      const parts = run.computes ? [`of the pass: computes ${percent(chip.shares.compute)}, waits ${percent(chip.shares.exposed)}, `
        + `fixed costs ${percent(chip.shares.overhead)}`] : [`done after ${seconds(chip.finish - run.begin)}`];
      if (without) parts.push("not all messages are kept");
      if (run.shared) parts.push("some messages on shared links have no lane");
      if (shown.length > SENT && run.axes.length) parts.push(`${shown.length} blocks: zoom in for single messages`);
      document.getElementById(`${place}-said`).textContent = parts.join("; ");
    });
    document.getElementById("range").textContent = `Shown: ${seconds(time.end - time.start)}, from ${seconds(time.start)} to `
      + `${seconds(time.end)}`;
  }

  let waiting = 0;
  function soon() {
    if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; draw(); });
  }
  time.properties.start.change.connect(soon);
  time.properties.end.change.connect(soon);
  window.addEventListener("resize", soon);

  // -- moving in time

  const longest = () => Math.max(...data.timelines.map((run) => run.end - start(run)));
  const earliest = () => Math.min(...data.timelines.map((run) => run.begin - start(run)));
  function show(a, b) {
    time.setv({start: a, end: Math.max(b, a + 1e-9)});
  }
  function zoom(by) {
    const middle = (time.start + time.end) / 2, half = (time.end - time.start) / 2 * by;
    show(middle - half, middle + half);
  }
  function pan(by) {
    const far = (time.end - time.start) * by;
    show(time.start + far, time.end + far);
  }
  function block(by) {
    const run = data.timelines[0], chip = run.chips[run.chosen[0]], middle = (time.start + time.end) / 2 + start(run);
    const ends = run.runs.map((_, i) => extent(run, chip, i));
    const now = ends.reduce((best, [a, b], i) => {
      const away = Math.abs((a + b) / 2 - middle);
      return away < best[1] ? [i, away] : best;
    }, [0, Infinity])[0];
    const [a, b] = ends[Math.max(0, Math.min(ends.length - 1, now + by))].map((at) => at - start(run)), edge = 0.02 * (b - a);
    show(a - edge, b + edge);
  }
  function one() {
    const from = data.timelines.map((run) => run.origin - start(run));
    show(Math.min(...from) - 0.01 * data.span, Math.max(...from) + 1.01 * data.span);
  }
  function all() {
    const edge = 0.01 * (longest() - earliest());
    show(earliest() - edge, longest() + edge);
  }
  const moves = {in: () => zoom(0.5), out: () => zoom(2), left: () => pan(-0.25), right: () => pan(0.25), before: () => block(-1),
    after: () => block(1), block: one, all};
  for (const button of document.querySelectorAll("[data-move]")) button.addEventListener("click", moves[button.dataset.move]);
  const keys = {"+": "in", "=": "in", "-": "out", "ArrowLeft": "left", "ArrowRight": "right", "0": "block", "PageUp": "before",
    "PageDown": "after"};
  const lanes = document.getElementById("lanes");
  lanes.addEventListener("keydown", (event) => {
    if (event.target !== lanes || event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    moves[keys[event.key]]();
  });
  document.getElementById("align").addEventListener("change", (event) => {
    origin = event.target.value;
    one();
    draw();
  });
  for (const run of data.timelines) run.places.forEach((place, i) => {
    document.getElementById(`${place}-chip`).addEventListener("change", (event) => {
      run.chosen[i] = Number(event.target.value);
      draw();
    });
  });

  // -- light and dark

  const button = document.getElementById("theme"), system = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const dark = () => chosen ?? system.matches;
  function theme() {
    const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(`--${name}`).trim();
    return {ink: colour("ink"), faint: colour("faint"), page: colour("card"), line: colour("line"), box: colour("box"), bad: colour("bad")};
  }
  const PARTS = {axis_line_color: "line", major_tick_line_color: "line", major_label_text_color: "ink", axis_label_text_color: "ink",
    grid_line_color: "line", title_text_color: "ink"};
  function paint() {
    document.documentElement.dataset.theme = dark() ? "dark" : "light";
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(dark()));
    const colours = theme();
    for (const model of figures._all_models.values()) {
      const changed = {};
      for (const [part, role] of Object.entries(PARTS)) {
        if (part in model.properties && model.properties[part].get_value() !== null) changed[part] = colours[role];
      }
      const role = model.tags?.[0];
      if (role in colours && "fill_color" in model.properties && !model.properties.xs?.value) changed.fill_color = colours[role];
      if (role in colours && "text_color" in model.properties) changed.text_color = colours[role];
      if (model.name === "use") changed.palette = dark() ? palettes.get(model).slice(0, 52).reverse() : palettes.get(model);
      if (Object.keys(changed).length) model.setv(changed);
    }
    draw();
  }
  const palettes = new Map();
  for (const model of figures._all_models.values()) if (model.name === "use") palettes.set(model, model.palette);
  button.addEventListener("click", () => {
    chosen = !dark();
    paint();
  });
  system.addEventListener("change", paint);
  let before = null;
  window.addEventListener("beforeprint", () => {
    before = [chosen, [...document.querySelectorAll("details:not([open])")]];
    chosen = false;
    for (const one of before[1]) one.open = true;
    paint();
  });
  window.addEventListener("afterprint", () => {
    if (!before) return;
    chosen = before[0];
    for (const one of before[1]) one.open = false;
    paint();
  });

  // -- copying

  for (const copy of document.querySelectorAll("[data-copy]")) copy.addEventListener("click", async () => {
    const from = document.getElementById(copy.dataset.copy), said = copy.parentElement.querySelector("[role=status]");
    try {
      await navigator.clipboard.writeText(from.textContent);
      said.textContent = "Copied.";
    } catch {
      window.getSelection().selectAllChildren(from);
      said.textContent = "Selected: copy it with Ctrl and C.";
    }
  });

  paint(); // before there are views, so that each figure is drawn once
  const roots = figures.roots().map((root) => document.getElementById(data.places[root.id]));
  await Bokeh.embed.add_document_standalone(figures, document.body, roots);
  window.torussim.figures = figures;
  // The buttons and the group of the lanes take the keys; a stop at each canvas would be one more without use.
  function skip(part) {
    for (const inner of part.querySelectorAll("*")) {
      if (inner.tabIndex >= 0) inner.tabIndex = -1;
      if (inner.shadowRoot) skip(inner.shadowRoot);
    }
  }
  roots.forEach(skip);
  document.documentElement.dataset.ready = "yes";
})();
