// What moves on the page: figures, the time that is shown, the chips that are chosen, the theme, and copying.
// Data and figures come as JSON in the element "data"; the lanes of a chip are described in torussim/page/lanes.py.
"use strict";
(async () => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const MOST = 400; // blocks whose operations are drawn at once
  const SENT = 12; // blocks whose messages are drawn one by one
  const UNIT = 30, ROW = 20, LINK = 11, RULER = 15; // pixels, as in lanes.py
  const PREFIXES = [["ns", 1e-9], ["us", 1e-6], ["ms", 1e-3], ["s", 1]];

  // -- numbers as text

  const digits = (value, count) => String(Number(value.toPrecision(count)));
  function seconds(value, count = 4) {
    if (!value) return "0 s";
    const size = Math.abs(value) * (1 + 1e-9);
    const [unit, scale] = PREFIXES.findLast(([, scale]) => scale <= size) ?? PREFIXES[0];
    return `${digits(value / scale, count)} ${unit}`;
  }
  function tick(value, ticks) {
    const step = ticks.length > 1 ? Math.abs(ticks[1] - ticks[0]) : Math.abs(value) || 1;
    const most = Math.max(...ticks.map(Math.abs), step);
    if (Math.abs(value) < step * 1e-6) return "0";
    const [unit, scale] = PREFIXES.findLast(([, scale]) => scale <= most * (1 + 1e-9)) ?? PREFIXES[0];
    const places = Math.max(0, Math.min(9, Math.ceil(-Math.log10(step / scale) - 1e-9)));
    return `${(value / scale).toFixed(places)} ${unit}`;
  }
  function bytes(value) {
    const found = [["B", 1], ["kB", 1e3], ["MB", 1e6], ["GB", 1e9], ["TB", 1e12]].findLast(([, scale]) => scale <= value);
    return found ? `${digits(value / found[1], 4)} ${found[0]}` : `${digits(value, 4)} B`;
  }
  window.torussim = {seconds: tick};

  const figures = Bokeh.require("document").Document.from_json(data.document);
  const named = (name) => figures.get_model_by_name(name);
  const time = named("time");

  // -- the lanes of a chip

  for (const run of data.timelines) {
    run.origins = {block: run.origin, pass: run.begin};
    run.chosen = run.places.map((_, i) => run.shown[i]);
    // The share of a segment's time that a chip sends on each lane, for when its messages are too many to draw.
    run.sectionNumber = [];
    let block = 0;
    for (const [segment] of run.runs) run.sectionNumber.push(run.segments[segment].section === "block" ? ++block : 0);
    run.blocks = block;
  }
  let origin = "block";
  const start = (run) => run.origins[origin];

  function extent(run, chip, index) {
    const [segment, offset] = run.runs[index];
    const times = chip.times[segment], count = times.length / 2;
    let since = Infinity, until = -Infinity;
    for (let i = 0; i < count; i++) {
      since = Math.min(since, times[i]);
      until = Math.max(until, times[count + i]);
    }
    return count ? [since + offset, until + offset] : [offset, offset];
  }

  function overlapping(run, chip, since, until) {
    const found = [];
    for (let i = 0; i < run.runs.length; i++) {
      const [a, b] = extent(run, chip, i);
      if (b >= since && a <= until) found.push(i);
    }
    return found;
  }

  // When the compute unit has nothing to do and no launch is paid for, as `analysis.waits` has it, in these runs and next to them.
  function waits(run, chip, shown) {
    const last = run.runs.length - 1, from = Math.max(0, (shown[0] ?? 0) - 1), to = Math.min(last, (shown.at(-1) ?? -1) + 1);
    const taken = [];
    for (let index = from; index <= to; index++) {
      const [segment, offset] = run.runs[index], {operations} = run.segments[segment], times = chip.times[segment];
      operations.forEach((number, i) => {
        const begin = times[i] + offset, moves = run.operations[number].kind !== "compute";
        taken.push([begin, moves ? begin + chip.fixed[number] : times[operations.length + i] + offset]);
      });
    }
    taken.sort((a, b) => a[0] - b[0]);
    const found = [];
    let reach = from ? taken[0]?.[0] ?? 0 : chip.begin;
    for (const [a, b] of [...taken, ...(to === last ? [[chip.finish, chip.finish]] : [])]) {
      if (a > reach) found.push([reach, a]);
      reach = Math.max(reach, b);
    }
    return found;
  }

  function rows(run, chip, since, until, pixel) {
    const bars = {}, names = {x: [], y: [], text: [], colour: [], back: []}, zero = start(run);
    const columns = ["left", "right", "top", "bottom", "colour", "alpha", "name", "what", "time", "takes", "more",
      "begin_s", "end_s"];
    for (const column of columns) bars[column] = [];
    const hatched = run.hatches.map(() => ({left: [], right: [], top: [], bottom: []}));
    function bar(a, b, top, bottom, colour, alpha, hatch, told) {
      const also = hatched[run.hatches.indexOf(hatch)];
      if (also) for (const [column, value] of [["left", a - zero], ["right", b - zero], ["top", top], ["bottom", bottom]]) {
        also[column].push(value);
      }
      const said = {what: "", more: "", bound: null, begin_s: a, end_s: b, ...told};
      const values = {left: a - zero, right: b - zero, top, bottom, colour, alpha, ...said,
        time: `${seconds(said.begin_s - zero, 6)} to ${seconds(said.end_s - zero, 6)}`,
        takes: `takes ${seconds(said.end_s - said.begin_s)}` + (said.bound === null ? "" : `, at least ${seconds(said.bound)}`)};
      for (const column of columns) bars[column].push(values[column]);
    }
    function name(text, a, b, y, colour, back = "#00000000") {
      const left = Math.max(a, since), right = Math.min(b, until), room = (right - left) / pixel;
      const fit = text.length * 6.4 + 6 <= room ? text : room > 46 ? `${text.slice(0, Math.floor(room / 6.4) - 2)}…` : "";
      if (!fit) return;
      names.x.push((left + right) / 2 - zero);
      names.y.push(y);
      names.text.push(fit);
      names.colour.push(colour);
      names.back.push(back); // over a hatch
    }
    const shown = overlapping(run, chip, since, until), detailed = shown.length <= MOST, each = shown.length <= SENT;
    const unit = RULER, first = unit + (run.computes ? UNIT + 6 : 0), lane = first + ROW * run.rows + 6;
    const laneTop = (number) => lane + Math.floor(number / 2) * (2 * LINK + 4) + (number % 2) * LINK;
    for (const index of shown) {
      const [segment, offset] = run.runs[index], {section, operations, rows: at} = run.segments[segment];
      const times = chip.times[segment], count = operations.length, [a, b] = extent(run, chip, index);
      const word = section === "block" ? (run.blocks > 1 ? `block ${run.sectionNumber[index]} of ${run.blocks}` : "block") : section;
      bar(a, b, 1, RULER - 3, "#808080", index % 2 ? 0.22 : 0.38, " ", {name: word});
      name(word, a, b, RULER / 2 - 1, "ink");
      if (!detailed) continue;
      // Launches first: a matmul that runs meanwhile hides them.
      const order = operations.map((_, i) => i).sort((i, j) => (run.operations[operations[i]].kind === "compute")
        - (run.operations[operations[j]].kind === "compute"));
      for (const i of order) {
        const o = run.operations[operations[i]], begin = times[i] + offset, end = times[count + i] + offset;
        if (end < since || begin > until) continue;
        const told = {name: o.name, what: o.axes ? `${o.what} over ${o.axes}` : o.what, bound: o.bound, begin_s: begin, end_s: end,
          more: o.algorithm ? `${bytes(o.bytes)}, ${o.algorithm}` : bytes(o.bytes)};
        if (o.kind === "compute") {
          const busy = chip.busy[operations[i]], fixed = chip.fixed[operations[i]], long = end - begin;
          const share = long > 0 ? Math.min(1, (busy + fixed) / long) : 1, top = unit + UNIT * (1 - share);
          if (share < 0.98) bar(begin, end, unit, top, data.colours.exposed, 1, "/", {...told, what: "waits within the loop"});
          bar(begin, end, share < 0.98 ? top : unit, unit + UNIT, o.colour, 1, " ", told);
          const head = fixed / share;
          if (head > pixel) bar(begin, Math.min(end, begin + head), top, unit + UNIT, data.colours.fixed, 1, " ",
            {...told, what: "fixed costs"});
          name(o.name, begin, end, unit + UNIT - UNIT * share / 2, "#ffffff");
        } else {
          const launched = begin + chip.fixed[operations[i]];
          if (run.computes && launched - begin > pixel) bar(begin, launched, unit, unit + UNIT, data.colours.fixed, 1, " ",
            {...told, what: "launch", end_s: launched});
          const top = first + ROW * at[i];
          bar(begin, end, top, top + ROW - 2, o.colour, 1, o.hatch, told);
          name(o.name, begin, end, top + ROW / 2 - 1, "#000000", o.colour);
          run.axes.forEach((axis, j) => {
            if (o.over.includes(axis)) bar(begin, end, laneTop(2 * j), laneTop(2 * j) + 2 * LINK, o.colour, 0.2, " ", told);
          });
        }
      }
      messages(run, chip, segment, offset, [a, b], each, bar, laneTop);
    }
    if (detailed && run.computes) {
      for (const [a, b] of waits(run, chip, shown)) {
        if (b < since || a > until) continue;
        bar(a, b, unit, unit + UNIT, data.colours.exposed, 1, "/", {name: "waits for communication", what: "exposed"});
        name(`waits ${seconds(b - a, 3)}`, a, b, unit + UNIT / 2, "#ffffff", data.colours.exposed);
      }
    }
    return [bars, names, hatched, shown, each];
  }

  // Messages one by one where few blocks are shown, else a bar as high as the share of the block that the lane sends.
  function messages(run, chip, segment, offset, [a, b], each, bar, laneTop) {
    const sent = chip.sent[segment] ?? [], used = new Array(2 * run.axes.length).fill(0);
    for (let i = 0; i < sent.length; i += 5) {
      const o = run.operations[sent[i]], lane = sent[i + 1], long = sent[i + 3] / data.ticks, begin = sent[i + 2] / data.ticks + offset;
      used[lane] += long;
      if (each) bar(begin, begin + long, laneTop(lane) + 1, laneTop(lane) + LINK - 1, o.colour, 1, " ",
        {name: o.name, what: `message on ${run.axes[lane >> 1]} ${lane % 2 ? "−" : "+"}`, more: bytes(sent[i + 4])});
    }
    if (!each && b > a) used.forEach((share, lane) => {
      const high = Math.min(1, share / (b - a)) * (LINK - 2);
      if (high > 0) bar(a, b, laneTop(lane) + LINK - 1 - high, laneTop(lane) + LINK - 1, "#808080", 1, " ",
        {name: `sends ${digits(100 * share / (b - a), 3)} % of the time`, what: `${run.axes[lane >> 1]} ${lane % 2 ? "−" : "+"}`});
    });
  }

  const percent = (share) => `${(100 * share).toFixed(0)} %`;
  function draw() {
    const colours = theme();
    for (const run of data.timelines) run.places.forEach((place, i) => {
      const chip = run.chips[run.chosen[i]], zero = start(run), element = document.getElementById(place);
      const pixel = (time.end - time.start) / Math.max(200, element.clientWidth - 100);
      const [bars, names, hatched, shown, each] = rows(run, chip, time.start + zero, time.end + zero, pixel);
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
