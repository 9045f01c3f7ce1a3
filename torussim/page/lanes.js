// The bars of a chip's lanes, made of its timeline (torussim/page/lanes.py) for the part of the time that is looked at.
"use strict";
function lanesOf(data) {
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

  // -- the lanes of a chip

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

  function rows(run, chip, since, until, pixel, zero) {
    const bars = {}, names = {x: [], y: [], text: [], colour: [], back: []};
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
    if (detailed) for (const index of shown) under(run, chip, index, bar, laneTop);
    for (const index of shown) {
      const [segment, offset] = run.runs[index], {section, operations, rows: at} = run.segments[segment];
      const times = chip.times[segment], count = operations.length, [a, b] = extent(run, chip, index);
      const word = run.often[section] === 1 ? section
        : `${run.several ? `${section}, run` : section} ${run.numbers[index]} of ${run.often[section]}`;
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

  // Light bars in the lanes of the links, under all messages: while a collective over their axis is under way.
  function under(run, chip, index, bar, laneTop) {
    const [segment, offset] = run.runs[index], {operations} = run.segments[segment], times = chip.times[segment];
    operations.forEach((number, i) => {
      const o = run.operations[number], begin = times[i] + offset, end = times[operations.length + i] + offset;
      run.axes.forEach((axis, j) => {
        if (o.over.includes(axis)) bar(begin, end, laneTop(2 * j), laneTop(2 * j) + 2 * LINK, o.colour, 0.2, " ",
          {name: o.name, what: `under way over ${o.axes}`});
      });
    });
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

  return {SENT, seconds, tick, extent, rows};
}
