// Line charts as SVG, redrawn for the width at hand.
(() => {
  "use strict";

  const HUES = 8;
  const MARKERS = 5;
  const DASHES = ["6 4", "2 3", "10 3 2 3", "12 4", "4 2 1 2"];
  // the namespace comes from the parser, so that no address stands in the page
  const parsed = document.createElement("template");
  parsed.innerHTML = "<svg></svg>";
  const namespace = parsed.content.firstChild.namespaceURI;

  const svg = (name, attributes = {}, text = null) => {
    const node = document.createElementNS(namespace, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== null) node.textContent = text;
    return node;
  };

  const html = (name, className = "", text = null) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== null) node.textContent = text;
    return node;
  };

  const classes = (series) => {
    if (series.role === "bound") return "series bound";
    if (series.role === "reference") return "series reference";
    return `series hue-${series.color % HUES}`;
  };

  const dash = (series) => {
    if (series.role === "bound") return "1 4";
    if (series.role === "reference") return DASHES[series.color % DASHES.length];
    return series.color >= HUES ? DASHES[0] : "none";
  };

  // a shape a series as well as a hue, for those who do not see hues
  const marker = (shape, x, y, r) => {
    const polygon = (points) =>
      `M${points.map(([dx, dy]) => `${x + dx * r},${y + dy * r}`).join("L")}Z`;
    const square = 0.88;
    switch (shape % MARKERS) {
      case 1:
        return polygon([[-square, -square], [square, -square], [square, square], [-square, square]]);
      case 2:
        return polygon([[0, -1.25], [1.15, 0.85], [-1.15, 0.85]]);
      case 3:
        return polygon([[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]]);
      case 4:
        return polygon([[0, 1.25], [1.15, -0.85], [-1.15, -0.85]]);
      default:
        return `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`;
    }
  };

  class Chart {
    constructor(figure) {
      this.data = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
      this.plot = figure.querySelector(".plot");
      this.panel = this.data.panels[0];
      this.hidden = new Set();
      this.plot.hidden = false;
      this.legend = html("ul", "key");
      this.canvas = html("div", "canvas");
      this.tip = html("div", "tip");
      this.tip.setAttribute("role", "status");
      this.tip.hidden = true;
      this.plot.append(this.legend, this.canvas);
      const label = figure.querySelector(".pick");
      if (label) {
        label.hidden = false;
        label.querySelector("select").addEventListener("change", (event) => {
          this.panel = this.data.panels[Number(event.target.value)];
          this.draw();
        });
      }
      this.title = figure.querySelector("h3").textContent;
      new ResizeObserver(() => {
        if (this.canvas.clientWidth !== this.width) this.draw();
      }).observe(this.canvas);
    }

    visible() {
      return this.panel.series.filter((series) => !this.hidden.has(series.name));
    }

    draw() {
      this.width = this.canvas.clientWidth;
      if (!this.width) return;
      this.drawLegend();
      const isNarrow = this.width < 520;
      this.height = Math.round(Math.min(Math.max(this.width * 0.5, 270), 420));
      this.setScales(isNarrow);
      this.root = svg("svg", {
        width: this.width, height: this.height, tabindex: 0, role: "img",
        "aria-label": `${this.title}: ${this.panel.label} against ${this.data.x.label}. ` +
          "Arrow keys step through the points.",
      });
      this.drawAxes();
      this.drawSeries();
      this.drawLabels();
      this.focus = svg("path", { class: "focus", d: "" });
      this.root.append(this.focus);
      this.tip.hidden = true;
      this.canvas.replaceChildren(this.root, this.tip);
      this.current = -1;
      this.listen();
    }

    setScales(isNarrow) {
      const points = this.visible().flatMap((series) => series.points);
      const range = (index, extra) => {
        const values = [...points.map((point) => point[index]), ...(extra || [])];
        return values.length ? [Math.min(...values), Math.max(...values)] : [1, 2];
      };
      const { categories, scale } = this.data.x;
      const [low, high] = range(0);
      const count = isNarrow ? 4 : 7;
      if (categories.length) this.xs = scales.categories(categories);
      else this.xs = scale === "log" ? scales.log(low, high, count + 2) : scales.linear(low, high, count);
      const [bottom, top] = range(1, this.panel.range);
      const isLog = this.panel.scale === "log";
      this.ys = isLog ? scales.log(bottom, top, 9) : scales.linear(bottom, top, 5);
      const longest = Math.max(...this.ys.ticks.map((tick) => scales.short(tick).length), 1);
      const hasCounts = categories.some(([, count_]) => count_);
      this.box = {
        left: 14 + 7 * longest, right: this.width - 14, top: 30,
        bottom: this.height - (hasCounts ? 60 : 46),
      };
    }

    x(value) {
      return this.box.left + this.xs.at(value) * (this.box.right - this.box.left);
    }

    y(value) {
      return this.box.bottom - this.ys.at(value) * (this.box.bottom - this.box.top);
    }

    drawAxes() {
      const { left, right, top, bottom } = this.box;
      for (const tick of this.ys.ticks) {
        const y = Math.round(this.y(tick)) + 0.5;
        this.root.append(svg("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }));
        const place = { class: "tick", x: left - 8, y: y + 4, "text-anchor": "end" };
        this.root.append(svg("text", place, scales.short(tick)));
      }
      this.root.append(
        svg("line", { class: "base", x1: left, x2: right, y1: bottom + 0.5, y2: bottom + 0.5 })
      );
      const { categories } = this.data.x;
      for (const tick of this.xs.ticks) {
        const x = this.x(tick);
        const place = { class: "tick", x, y: bottom + 18, "text-anchor": "middle" };
        this.root.append(svg("line", { class: "base", x1: x, x2: x, y1: bottom, y2: bottom + 4 }));
        if (!categories.length) this.root.append(svg("text", place, scales.short(tick)));
        else {
          const [name, count] = categories[tick];
          const isCrowded = (right - left) / categories.length < 36;
          if (isCrowded) place.class = "tick small";
          this.root.append(svg("text", place, name));
          const below = { ...place, class: `${place.class} faint`, y: bottom + 32 };
          if (count) this.root.append(svg("text", below, count));
        }
      }
      const better = { higher: " ↑ higher is better", lower: " ↓ lower is better" };
      const label = svg("text", { class: "axis", x: 2, y: 14 }, this.panel.label);
      label.append(svg("tspan", { class: "faint" }, better[this.panel.better] || ""));
      const place = { class: "axis", x: right, y: this.height - 6, "text-anchor": "end" };
      this.root.append(label, svg("text", place, `${this.data.x.label} →`));
    }

    drawSeries() {
      this.marks = [];
      this.groups = new Map();
      // greys and bounds lie below what is compared with them
      const order = [...this.visible()].sort((a, b) => Number(!a.role) - Number(!b.role));
      for (const series of order) {
        const group = svg("g", { class: classes(series) });
        group.style.setProperty("--shade", `${Math.round(100 * series.shade)}%`);
        const places = series.points.map(([x, y]) => [this.x(x), this.y(y)]);
        const path = places.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L");
        if (places.length > 1) {
          group.append(svg("path", { class: "line", d: `M${path}`, "stroke-dasharray": dash(series) }));
        }
        const r = this.width < 520 ? 3.4 : 4.2;
        places.forEach(([x, y], i) => {
          if (series.markers && series.role !== "bound") {
            group.append(svg("path", { class: "marker", d: marker(series.color, x, y, r) }));
          }
          this.marks.push({ series, point: series.points[i], x, y });
        });
        this.groups.set(series.name, group);
        this.root.append(group);
      }
      this.marks.sort((a, b) => a.x - b.x || a.y - b.y);
    }

    // labels beside their points where nothing else is; the others are in the tooltips
    drawLabels() {
      const taken = this.marks.map(({ x, y }) => [x - 4, y - 4, x + 4, y + 4]);
      const { left, right, top } = this.box;
      for (const mark of [...this.marks].sort((a, b) => Boolean(a.series.role) - Boolean(b.series.role))) {
        const text = mark.point[2];
        if (!text) continue;
        const width = 6.2 * text.length;
        for (const [dx, dy] of [[-width / 2, -9], [-width / 2, 18], [8, 4], [-8 - width, 4]]) {
          const [x, y] = [mark.x + dx, mark.y + dy];
          const area = [x, y - 9, x + width, y + 1];
          const isFree = taken.every(
            ([a, b, c, d]) => area[2] < a || area[0] > c || area[3] < b || area[1] > d
          );
          if (!isFree || x < left || x + width > right + 10 || y - 9 < top - 14) continue;
          taken.push(area);
          this.groups.get(mark.series.name).append(svg("text", { class: "label", x, y }, text));
          break;
        }
      }
    }

    drawLegend() {
      this.legend.replaceChildren();
      for (const series of this.panel.series) {
        const item = html("li");
        const button = html("button");
        button.type = "button";
        button.title = "hide or show";
        button.setAttribute("aria-pressed", String(!this.hidden.has(series.name)));
        const swatch = svg("svg", { width: 26, height: 12, "aria-hidden": "true" });
        const group = svg("g", { class: classes(series) });
        group.style.setProperty("--shade", `${Math.round(100 * series.shade)}%`);
        group.append(svg("path", { class: "line", d: "M1,6L25,6", "stroke-dasharray": dash(series) }));
        if (series.markers && series.role !== "bound") {
          group.append(svg("path", { class: "marker", d: marker(series.color, 13, 6, 3.6) }));
        }
        swatch.append(group);
        button.append(swatch, html("span", "", series.name));
        button.addEventListener("click", () => {
          if (!this.hidden.delete(series.name)) this.hidden.add(series.name);
          this.draw();
          const index = this.panel.series.indexOf(series);
          this.legend.children[index].firstChild.focus();
        });
        button.addEventListener("pointerenter", () => this.emphasise(series.name));
        button.addEventListener("pointerleave", () => this.emphasise(null));
        item.append(button);
        this.legend.append(item);
      }
    }

    emphasise(name) {
      for (const [other, group] of this.groups) {
        group.classList.toggle("dim", name !== null && other !== name);
      }
    }

    listen() {
      this.root.addEventListener("pointermove", (event) => {
        const area = this.root.getBoundingClientRect();
        const [x, y] = [event.clientX - area.left, event.clientY - area.top];
        const distances = this.marks.map((mark) => Math.hypot(mark.x - x, mark.y - y));
        const nearest = distances.indexOf(Math.min(...distances));
        this.show(distances[nearest] < 40 ? nearest : -1);
      });
      this.root.addEventListener("pointerleave", () => this.show(-1));
      this.root.addEventListener("blur", () => this.show(-1));
      this.root.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (event.key === "Escape") this.show(-1);
        if (!step || !this.marks.length) return;
        event.preventDefault();
        const count = this.marks.length;
        const start = this.current < 0 && step < 0 ? 0 : this.current;
        this.show((start + step + count) % count);
      });
    }

    show(index) {
      if (index === this.current) return;
      this.current = index;
      const mark = this.marks[index];
      this.tip.hidden = !mark;
      this.emphasise(mark ? mark.series.name : null);
      this.focus.setAttribute("d", mark ? marker(0, mark.x, mark.y, 8) : "");
      if (!mark) return;
      this.tip.replaceChildren(...this.tipLines(mark));
      const right = mark.x + 14 + this.tip.offsetWidth < this.width;
      this.tip.style.left = `${Math.max(right ? mark.x + 14 : mark.x - 14 - this.tip.offsetWidth, 0)}px`;
      this.tip.style.top = `${Math.max(mark.y - this.tip.offsetHeight - 8, 0)}px`;
    }

    tipLines({ series, point: [x, y, , note] }) {
      const { categories, label } = this.data.x;
      const { digits } = this.panel;
      const value = digits === null ? scales.short(y) : y.toFixed(digits);
      const lines = [html("strong", "", series.name)];
      lines.push(html("span", "value", `${this.panel.label}: ${value}`));
      const where = categories.length ? categories[x][0] : scales.short(x);
      lines.push(html("span", "", `${label}: ${where}`));
      if (note && note !== series.name) lines.push(html("span", "", note));
      return lines;
    }
  }

  for (const figure of document.querySelectorAll("figure.chart")) new Chart(figure);
})();
