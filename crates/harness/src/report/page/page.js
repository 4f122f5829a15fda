"use strict";
// Draws the diagrams of a page. Only the rows in sight are drawn, so the length of a run does not
// matter; everything comes from the data in the page, and nothing from anywhere else.
(() => {
  const KINDS = ["commit", "publish", "deliver", "settle", "start", "end", "call", "answer", "effect",
    "process", "fault", "heal", "violation", "broker"];
  const TONES = ["plain", "failed", "doubt"];
  const DURING = ["handler", "call", "down", "paused"];
  const [FAULT, HEAL, VIOLATION, EFFECT, PROCESS] = [10, 11, 12, 8, 9];
  const SHARED = new Set(["world", "broker", "database"]);
  const GUTTER = 96, HEAD = 92, CHUNK = 256, PRINTED = 400, MAX_HEIGHT = 30e6;
  const $ = (id) => document.getElementById(id);
  const svg = (name, attributes, parent, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  };
  const html = (name, attributes, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const seconds = (ns) => (ns / 1e9).toFixed(6);
  const span = (ns) => ns < 1e6 ? `${Math.round(ns / 1e3)} µs` : ns < 1e9
    ? `${(ns / 1e6).toFixed(1)} ms` : ns < 6e10 ? `${(ns / 1e9).toFixed(1)} s`
    : `${Math.floor(ns / 6e10)} min ${Math.round(ns / 1e9) % 60} s`;
  const short = (key) => key.slice(key.lastIndexOf(">") + 1);
  const leads = (key, to) => to === key || (to.startsWith(key) && to[key.length] === ">");
  // The first place in a sorted list whose value is not below `value`.
  const lower = (list, value) => {
    let [low, high] = [0, list.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle] < value) low = middle + 1; else high = middle;
    }
    return low;
  };

  // Things that reach from row to row, to be found by the rows in sight.
  class Reaching {
    constructor(all, rows) {
      this.byFrom = all.slice().sort((a, b) => a.from - b.from);
      this.byTo = all.slice().sort((a, b) => a.to - b.to);
      this.froms = this.byFrom.map((one) => one.from);
      this.tos = this.byTo.map((one) => one.to);
      this.open = Array.from({ length: Math.ceil((rows + 1) / CHUNK) }, () => []);
      for (const one of all) {
        const last = Math.min(Math.floor(one.to / CHUNK), this.open.length - 1);
        for (let chunk = Math.floor(one.from / CHUNK) + 1; chunk <= last; chunk++) {
          if (this.open[chunk].length < 400) this.open[chunk].push(one);
        }
      }
    }
    within(first, last) {
      const found = new Set();
      for (let i = lower(this.froms, first); i < this.froms.length && this.froms[i] <= last; i++) found.add(this.byFrom[i]);
      for (let i = lower(this.tos, first); i < this.tos.length && this.tos[i] <= last; i++) found.add(this.byTo[i]);
      const chunk = Math.min(Math.floor(first / CHUNK), this.open.length - 1);
      for (const one of this.open[chunk] || []) if (one.to >= first) found.add(one);
      // What began in this chunk before the rows in sight.
      for (let i = lower(this.froms, chunk * CHUNK); i < this.froms.length && this.froms[i] < first; i++) {
        if (this.byFrom[i].to >= first) found.add(this.byFrom[i]);
      }
      // Where a whole backlog waits, what only passes by says nothing and hides the rest.
      const passing = [...found].filter((one) => one.from < first && one.to > last);
      if (passing.length > 40) passing.forEach((one) => found.delete(one));
      return found;
    }
  }

  class Diagram {
    constructor(root, data) {
      Object.assign(this, { root, data, zoom: 1, byTime: false, selected: -1, rows: [] });
      this.scroller = root.querySelector(".scroller");
      this.spacer = root.querySelector(".spacer");
      this.canvas = root.querySelector(".scroller svg");
      this.panel = root.querySelector(".panel");
      this.input = root.querySelector("input");
      this.count = root.querySelector(".count");
      for (const [name, kind] of [["violation", VIOLATION], ["fault", FAULT]]) {
        root.querySelector(`[data-do="${name}"]`).hidden = !data.kind.includes(kind);
      }
      const list = root.querySelector("datalist");
      for (const key of data.keys.slice(0, 500)) list.append(html("option", { value: key }));
      this.input.value = data.focus >= 0 ? data.keys[data.focus] : "";
      this.listen();
      this.choose();
      const start = this.rows.findIndex((step) => data.kind[step] === VIOLATION);
      if (start >= 0) this.select(start, false);
    }

    listen() {
      const on = (name, act) => this.root.querySelector(`[data-do="${name}"]`).addEventListener("click", act);
      on("in", () => this.zoomTo(this.zoom * 1.25));
      on("out", () => this.zoomTo(this.zoom / 1.25));
      on("all", () => this.filter(""));
      on("time", () => this.toggleTime());
      on("violation", () => this.next(1, VIOLATION));
      on("fault", () => this.next(1, FAULT));
      this.input.addEventListener("input", () => {
        clearTimeout(this.typed);
        this.typed = setTimeout(() => this.choose(), this.data.at.length > 20000 ? 250 : 0);
      });
      this.scroller.addEventListener("scroll", () => this.soon(), { passive: true });
      this.scroller.addEventListener("keydown", (event) => this.key(event));
      this.canvas.addEventListener("click", (event) => {
        const hit = event.target.closest(".hit");
        if (hit) this.select(Number(hit.dataset.row), false);
      });
      this.canvas.addEventListener("pointermove", (event) => this.hover(event));
      this.canvas.addEventListener("pointerleave", () => { $("tip").hidden = true; });
      new ResizeObserver(() => this.soon()).observe(this.scroller);
    }

    filter(text) {
      this.input.value = text;
      this.choose();
    }

    // Which steps are shown: as the program itself tells a message's story.
    choose() {
      const { data } = this, step = this.rows[this.selected], text = this.input.value.trim();
      const all = data.at.map((_, at) => at);
      if (text === "") this.rows = all;
      else {
        const exact = data.keys.includes(text), low = text.toLowerCase();
        const wanted = data.keys.map((key) => exact ? leads(key, text) : key.toLowerCase().includes(low));
        this.ends ??= new Map(Array.from({ length: data.lasting.length / 2 },
          (_, i) => [data.lasting[2 * i], data.lasting[2 * i + 1]]));
        const own = (at) => data.message[at] >= 0 && wanted[data.message[at]];
        const told = all.filter(own), lanes = new Set(told.map((at) => data.lane[at]));
        const from = told.length ? data.at[told[0]] : 1, until = told.length ? data.at[told[told.length - 1]] : 0;
        const among = (at) => {
          const kind = data.kind[at];
          const role = data.lanes[data.lane[at]][1];
          const dies = role === "relay" && data.labels[data.label[at]].startsWith("crash");
          const meanwhile = data.at[at] >= from && data.at[at] <= until;
          const lasts = data.at[at] < from && this.ends.get(at) > from;
          return (meanwhile || lasts) && [FAULT, PROCESS, HEAL, VIOLATION].includes(kind)
            && (kind === PROCESS || data.message[at] < 0)
            && (dies || lanes.has(data.lane[at]) || SHARED.has(role) || (kind === FAULT && role === "service"));
        };
        this.rows = all.filter((at) => own(at) || among(at));
      }
      this.count.textContent = `${this.rows.length.toLocaleString("en")} of ${data.at.length.toLocaleString("en")} steps`;
      const rowOf = new Int32Array(data.at.length).fill(-1);
      this.rows.forEach((at, row) => { rowOf[at] = row; });
      this.many = new Set(this.rows.map((at) => data.message[at]).filter((of) => of >= 0)).size > 1;
      this.connect(rowOf);
      this.selected = step === undefined ? -1 : rowOf[step];
      this.layOut();
      this.show(this.selected);
      this.tell();
    }

    connect(rowOf) {
      const { data, rows } = this, used = new Set(rows.map((at) => data.lane[at])), arrows = [], spans = [];
      this.causes = new Map();
      this.effects = new Map();
      for (let i = 0; i < data.arrows.length; i += 5) {
        const [fromLane, fromStep, toLane, toStep, tone] = data.arrows.slice(i, i + 5);
        const [from, to] = [rowOf[fromStep], rowOf[toStep]];
        if (from < 0 || to < 0) continue;
        arrows.push({ from, to, fromLane, toLane, tone });
        used.add(fromLane).add(toLane);
        if (from !== to) {
          this.causes.set(to, from);
          if (!this.effects.has(from)) this.effects.set(from, to);
        }
      }
      for (let i = 0; i < data.spans.length; i += 4) {
        const [lane, fromStep, toStep, what] = data.spans.slice(i, i + 4);
        const own = rowOf[fromStep] >= 0;
        if (!used.has(lane) || (what < 2 && !own)) continue;
        const from = lower(rows, fromStep), to = toStep < 0 ? rows.length : lower(rows, toStep);
        if (from < rows.length && to > from) spans.push({ from, to, lane, what });
      }
      this.lanes = data.lanes.map((_, lane) => lane).filter((lane) => used.has(lane));
      this.columnOf = new Map(this.lanes.map((lane, column) => [lane, column]));
      this.arrows = new Reaching(arrows, rows.length);
      this.spans = new Reaching(spans, rows.length);
    }

    layOut() {
      const { data, rows } = this, height = 24 * this.zoom, y = new Float64Array(rows.length);
      let at = HEAD + 18;
      const first = rows.length ? data.at[rows[0]] : 0;
      const length = rows.length ? data.at[rows[rows.length - 1]] - first : 0;
      const perNs = Math.min((rows.length * height) / Math.max(length, 1), 20 * height / 1e6) * this.zoom;
      rows.forEach((step, row) => {
        if (this.byTime) y[row] = HEAD + 18 + (data.at[step] - first) * perNs;
        else {
          if (row > 0) at += height + this.gap(data.at[step] - data.at[rows[row - 1]]);
          y[row] = at;
        }
      });
      let end = rows.length ? y[rows.length - 1] + 40 : HEAD + 40;
      // Browsers end somewhere.
      if (end > MAX_HEIGHT) {
        const scale = MAX_HEIGHT / end;
        y.forEach((value, row) => { y[row] = value * scale; });
        end = MAX_HEIGHT;
      }
      this.y = y;
      this.end = end;
      this.spacer.style.height = `${end}px`;
      this.scroller.style.height = `${end + 2}px`;
      this.soon();
    }

    // Long waits take more room, though not in proportion.
    gap(ns) { return ns < 5e7 ? 0 : Math.min(34, 6 * Math.log10(ns / 5e6)); }

    soon() {
      if (this.asked) return;
      this.asked = true;
      requestAnimationFrame(() => { this.asked = false; this.draw(); });
    }

    laneWidth(width) {
      return Math.max(46, Math.min(110, (width - GUTTER - 330) / Math.max(this.lanes.length, 1)));
    }

    draw() {
      const width = Math.max(this.scroller.clientWidth, GUTTER + this.lanes.length * 46 + 240);
      const height = this.scroller.clientHeight, top = this.scroller.scrollTop;
      const first = Math.max(0, lower(this.y, top + HEAD - 60) - 1);
      const last = Math.min(this.rows.length - 1, lower(this.y, top + height + 60));
      this.spacer.style.width = `${width}px`;
      this.paint(this.canvas, { width, height, top, first, last });
    }

    // Draws rows first to last into `canvas`, of which `top` is the upper edge.
    paint(canvas, { width, height, top, first, last }) {
      canvas.replaceChildren();
      canvas.setAttribute("width", width);
      canvas.setAttribute("height", height);
      canvas.setAttribute("viewBox", `0 0 ${width} ${height}`);
      const place = { step: this.laneWidth(width), top, width, height };
      const x = (lane) => GUTTER + (this.columnOf.get(lane) + 0.5) * place.step;
      const y = (row) => (row >= this.rows.length ? this.end : this.y[row]) - top;
      const [under, over] = [svg("g", {}, canvas), svg("g", {}, canvas)];
      for (const lane of this.lanes) svg("line", { class: "lane", x1: x(lane), x2: x(lane), y1: 0, y2: height }, under);
      for (const one of this.spans.within(first, last)) this.paintSpan(under, one, x, y);
      for (const one of this.arrows.within(first, last)) this.paintArrow(over, one, x, y);
      let free = -Infinity;
      for (let row = first; row <= last; row++) free = this.paintRow(canvas, row, x, y, place, free);
      this.paintHead(canvas, x, width);
    }

    paintSpan(parent, { from, to, lane, what }, x, y) {
      const wide = DURING[what] === "down" ? 10 : 8;
      const [above, below] = [Math.max(y(from), -20), Math.min(y(to), 40e3)];
      const kind = what < 2 ? "busy" : DURING[what];
      svg("rect", { class: kind, x: x(lane) - wide / 2, y: above, width: wide, height: Math.max(below - above, 2), rx: 2 }, parent);
    }

    paintArrow(parent, { from, to, fromLane, toLane, tone }, x, y) {
      const [x1, y1, x2, y2] = [x(fromLane), y(from), x(toLane), y(to)];
      const length = Math.hypot(x2 - x1, y2 - y1) || 1, [ux, uy] = [(x2 - x1) / length, (y2 - y1) / length];
      const [ex, ey] = [x2 - ux * 6, y2 - uy * 6];
      const rest = y2 - y1 > 200 ? " rest" : "";
      svg("line", { class: `arrow ${TONES[tone]}${rest}`, x1, y1, x2: ex, y2: ey }, parent);
      const points = [[ex, ey], [ex - ux * 8 - uy * 4, ey - uy * 8 + ux * 4], [ex - ux * 8 + uy * 4, ey - uy * 8 - ux * 4]];
      svg("polygon", { class: `tip-${TONES[tone]}`, points: points.map((point) => point.join()).join(" ") }, parent);
    }

    paintRow(canvas, row, x, y, place, free) {
      const { data } = this, step = this.rows[row], at = y(row), kind = data.kind[step];
      const group = svg("g", { class: row === this.selected ? "hit sel" : "hit", "data-row": row }, null);
      const tall = Math.min(24 * this.zoom, 26);
      const loud = kind === FAULT ? " fault-row" : kind === VIOLATION ? " violation-row" : "";
      svg("rect", { class: `row${loud}`, x: 0, y: at - tall / 2, width: place.width, height: tall }, group);
      // Behind everything else, or it would hide the arrows.
      const under = group.cloneNode(true);
      under.setAttribute("class", row === this.selected ? "under sel" : "under");
      canvas.insertBefore(under, canvas.firstChild);
      group.firstChild.setAttribute("class", "row");
      if (kind === HEAL) svg("line", { class: "heal", x1: GUTTER, x2: GUTTER + this.lanes.length * place.step, y1: at, y2: at }, group);
      this.mark(group, kind, data.tone[step], x(data.lane[step]), at);
      // Where rows are closer than letters are high, not every one is named.
      if (at - free >= 13 || kind === VIOLATION || kind === FAULT || row === this.selected) {
        free = at;
        svg("text", { class: "time", x: GUTTER - 14, y: at + 4, "text-anchor": "end" }, group, seconds(data.at[step]));
        const left = GUTTER + this.lanes.length * place.step + 8;
        const label = svg("text", { x: left, y: at + 4 }, group);
        const named = kind === FAULT ? "fault-label" : kind === VIOLATION ? "violation-label" : "";
        const text = data.labels[data.label[step]];
        const seen = kind === VIOLATION ? `${text}: ${data.details[data.detail[step]]}` : text;
        label.append(svg("tspan", { class: named }, null, kind === VIOLATION && seen.length > 90 ? `${seen.slice(0, 88)}…` : seen));
        if (this.many && data.message[step] >= 0) label.append(svg("tspan", { class: "of", dx: 8 }, null, short(data.keys[data.message[step]])));
      }
      if (row > 0 && !this.byTime) {
        const wait = data.at[step] - data.at[this.rows[row - 1]];
        if (this.gap(wait) > 16) svg("text", { class: "gap", x: GUTTER - 14, y: at - 14 * this.zoom - 2, "text-anchor": "end" }, group, `… ${span(wait)}`);
      }
      canvas.append(group);
      return free;
    }

    mark(parent, kind, tone, x, y) {
      if (kind === FAULT) svg("polygon", { class: "fault", points: `${x},${y - 8} ${x + 8},${y + 6} ${x - 8},${y + 6}` }, parent);
      else if (kind === VIOLATION) svg("polygon", { class: "violation", points: `${x},${y - 9} ${x + 9},${y} ${x},${y + 9} ${x - 9},${y}` }, parent);
      else if (kind === EFFECT) {
        const point = (i) => [x + Math.sin(i * Math.PI / 5) * (i % 2 ? 3.4 : 8), y - Math.cos(i * Math.PI / 5) * (i % 2 ? 3.4 : 8)];
        svg("polygon", { class: "effect", points: Array.from({ length: 10 }, (_, i) => point(i).join()).join(" ") }, parent);
      } else svg("circle", { class: `dot ${TONES[tone]}`, cx: x, cy: y, r: 4.2 }, parent);
    }

    paintHead(canvas, x, width) {
      svg("rect", { class: "head", x: 0, y: 0, width, height: HEAD }, canvas);
      svg("line", { class: "lane", x1: 0, x2: width, y1: HEAD, y2: HEAD }, canvas);
      svg("text", { class: "time", x: GUTTER - 14, y: HEAD - 8, "text-anchor": "end" }, canvas, "seconds");
      for (const lane of this.lanes) {
        const at = x(lane);
        svg("text", { class: "name", x: at, y: HEAD - 8, transform: `rotate(-38 ${at} ${HEAD - 8})` }, canvas, this.data.lanes[lane][0]);
      }
    }

    hover(event) {
      const hit = event.target.closest(".hit"), tip = $("tip");
      tip.hidden = !hit;
      if (!hit) return;
      const step = this.rows[Number(hit.dataset.row)], { data } = this;
      const key = data.message[step] >= 0 ? `${data.keys[data.message[step]]}\n` : "";
      tip.textContent = `${seconds(data.at[step])} s  ${data.lanes[data.lane[step]][0]}\n${key}${data.labels[data.label[step]]}\n${data.details[data.detail[step]]}`;
      tip.style.whiteSpace = "pre-wrap";
      tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - 440))}px`;
      tip.style.top = `${Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8)}px`;
    }

    zoomTo(zoom) {
      const middle = this.selected >= 0 ? this.selected : lower(this.y, this.scroller.scrollTop + HEAD);
      this.zoom = Math.max(0.4, Math.min(8, zoom));
      this.layOut();
      this.show(middle);
    }

    toggleTime() {
      this.byTime = !this.byTime;
      this.root.querySelector('[data-do="time"]').setAttribute("aria-pressed", this.byTime);
      this.layOut();
      if (this.selected >= 0) this.show(this.selected);
    }

    show(row) {
      if (row < 0 || row >= this.rows.length) return;
      const [y, top, height] = [this.y[row], this.scroller.scrollTop, this.scroller.clientHeight];
      if (y < top + HEAD + 30 || y > top + height - 40) this.scroller.scrollTop = Math.max(0, y - height / 2);
      this.soon();
    }

    select(row, focus) {
      if (row < 0 || row >= this.rows.length) return;
      this.selected = row;
      this.show(row);
      this.tell();
      if (focus) this.scroller.focus();
    }

    next(step, kind) {
      const { data, rows } = this, n = rows.length;
      for (let i = 1; i <= n; i++) {
        const row = (((this.selected < 0 ? (step > 0 ? -1 : n) : this.selected) + step * i) % n + n) % n;
        if (data.kind[rows[row]] === kind) return this.select(row, true);
      }
    }

    // What is known of the selected step, in words.
    tell() {
      const { data, panel } = this, step = this.rows[this.selected];
      if (step === undefined) {
        panel.replaceChildren(html("span", { class: "dim" }, this.rows.length
          ? "Choose a step: by a click, or with the arrow keys." : "No step is about that message."));
        return;
      }
      const lines = [html("div", {}, html("strong", {}, data.labels[data.label[step]]),
        ` at ${seconds(data.at[step])} s on ${data.lanes[data.lane[step]][0]} (${KINDS[data.kind[step]]})`)];
      const key = data.message[step] >= 0 ? data.keys[data.message[step]] : "";
      if (key) lines.push(html("div", { class: "mono" }, key));
      if (data.details[data.detail[step]]) lines.push(html("div", {}, data.details[data.detail[step]]));
      const links = html("div", {});
      const link = (text, act) => {
        const button = html("button", { type: "button" }, text);
        button.addEventListener("click", act);
        links.append(button);
      };
      const [cause, effect] = [this.causes.get(this.selected), this.effects.get(this.selected)];
      if (cause !== undefined) link("← follows from", () => this.select(cause, true));
      if (effect !== undefined) link("→ leads to", () => this.select(effect, true));
      if (key && this.input.value !== key) link("only this message", () => this.filter(key));
      panel.replaceChildren(...lines, links);
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const page = Math.max(1, Math.floor(this.scroller.clientHeight / (24 * this.zoom)) - 4);
      const by = (rows) => this.select(Math.max(0, Math.min(this.rows.length - 1, this.selected + rows)), false);
      const keys = {
        ArrowDown: () => by(1), j: () => by(1), ArrowUp: () => by(-1), k: () => by(-1),
        PageDown: () => by(page), PageUp: () => by(-page),
        Home: () => this.select(0, false), End: () => this.select(this.rows.length - 1, false),
        ArrowLeft: () => this.select(this.causes.get(this.selected) ?? -1, false),
        ArrowRight: () => this.select(this.effects.get(this.selected) ?? -1, false),
        f: () => this.next(1, FAULT), F: () => this.next(-1, FAULT), v: () => this.next(1, VIOLATION),
        "+": () => this.zoomTo(this.zoom * 1.25), "-": () => this.zoomTo(this.zoom / 1.25),
        0: () => this.zoomTo(1), t: () => this.toggleTime(),
        "/": () => { this.input.focus(); this.input.select(); }, Escape: () => this.filter(""),
      };
      const act = keys[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    }

    // Paper does not scroll: pieces of so many rows, each with its head.
    print() {
      const { rows, data } = this, piece = 38;
      // Of a long run what is around its violation, or around what was chosen.
      const violated = rows.findIndex((step) => data.kind[step] === VIOLATION);
      const middle = this.selected >= 0 ? this.selected : Math.max(violated, 0);
      const begin = Math.max(0, Math.min(middle - PRINTED / 2, rows.length - PRINTED));
      const end = Math.min(rows.length, begin + PRINTED);
      this.root.prepend(html("p", { class: "print-more" }, `Run: ${this.root.getAttribute("aria-label")}`));
      for (let first = begin; first < end; first += piece) {
        const last = Math.min(first + piece, end) - 1;
        const top = this.y[first] - HEAD - 24, height = this.y[last] - top + 26;
        const canvas = svg("svg", { class: "print" }, this.root);
        this.paint(canvas, { width: Math.max(1040, GUTTER + this.lanes.length * 46 + 240), height, top, first, last });
      }
      if (rows.length > end - begin) this.root.append(html("p", { class: "print-more" }, `${rows.length - end + begin} more steps are not printed.`));
    }
  }

  const diagrams = [];
  const data = $("data");
  if (data) {
    const parts = JSON.parse(data.textContent);
    document.querySelectorAll(".diagram").forEach((root, i) => {
      root.hidden = false;
      diagrams.push(new Diagram(root, parts[i]));
      root.hidden = i > 0;
    });
  }
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const turn = (i) => tabs.forEach((tab, other) => {
    tab.setAttribute("aria-selected", other === i);
    tab.tabIndex = other === i ? 0 : -1;
    diagrams[other].root.hidden = other !== i;
    if (other === i) { tab.focus(); diagrams[i].soon(); }
  });
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => turn(i));
    tab.addEventListener("keydown", (event) => {
      if (event.key === "ArrowRight") turn((i + 1) % tabs.length);
      if (event.key === "ArrowLeft") turn((i + tabs.length - 1) % tabs.length);
    });
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details:not([open])").forEach((one) => {
    one.open = true;
    one.dataset.printed = "";
  }));
  addEventListener("afterprint", () => document.querySelectorAll("[data-printed]").forEach((one) => {
    one.open = false;
    delete one.dataset.printed;
  }));
  addEventListener("beforeprint", () => diagrams.filter((one) => !one.root.hidden).forEach((one) => one.print()));
  addEventListener("afterprint", () => document.querySelectorAll("svg.print, .print-more").forEach((node) => node.remove()));
  document.querySelectorAll("[data-copy]").forEach((button) => button.addEventListener("click", () => {
    const from = $(button.dataset.copy), done = () => { button.textContent = "copied"; };
    // A page from disk may not be allowed to copy; then at least it is selected.
    getSelection().selectAllChildren(from);
    button.textContent = "selected";
    if (document.execCommand("copy")) done();
    else if (navigator.clipboard) navigator.clipboard.writeText(from.textContent).then(done, () => {});
  }));
  const theme = $("theme");
  theme.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
})();
