// Original and reconstruction under one divider; their difference; a closer look.
(() => {
  "use strict";

  const GAIN = 8;
  const ZOOM = 4;
  const TALLEST = 0.75; // of the window
  const pictures = JSON.parse(document.getElementById("picture-data").textContent);

  const make = (name, className = "", text = null) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== null) node.textContent = text;
    return node;
  };

  const pixels = (image) => {
    const canvas = make("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  };

  const paintDifference = (canvas, original, reconstruction) => {
    const [a, b] = [pixels(original), pixels(reconstruction)];
    const [width, height] = [Math.min(a.width, b.width), Math.min(a.height, b.height)];
    const found = new ImageData(width, height);
    for (let row = 0; row < height; row += 1) {
      for (let column = 0; column < width; column += 1) {
        const [i, j, k] = [a.width, b.width, width].map((stride) => 4 * (row * stride + column));
        for (let c = 0; c < 3; c += 1) {
          found.data[k + c] = GAIN * Math.abs(a.data[i + c] - b.data[j + c]); // clamps by itself
        }
        found.data[k + 3] = 255;
      }
    }
    canvas.width = width;
    canvas.height = height;
    canvas.getContext("2d").putImageData(found, 0, 0);
  };

  class Slide {
    constructor(figure) {
      this.figure = figure;
      this.stage = figure.querySelector(".stage");
      this.stage.hidden = false;
      const { original, reconstruction, label } = figure.dataset;
      this.sources = [pictures[original], pictures[reconstruction]];
      this.view = make("div", "view");
      this.inner = make("div", "inner");
      this.images = ["original", "reconstruction"].map((name) => {
        const image = make("img", name);
        image.alt = name === "original" ? "original" : `reconstruction by ${label}`;
        return image;
      });
      this.canvas = make("canvas", "difference");
      this.canvas.hidden = true;
      this.inner.append(this.images[1], this.images[0], this.canvas);
      this.view.append(this.inner);
      this.range = make("input");
      this.range.type = "range";
      Object.assign(this.range, { min: 0, max: 100, step: 0.5, value: 50 });
      this.range.setAttribute("aria-label", "share of the original that is shown");
      this.overlay = make("div", "overlay");
      this.overlay.append(make("i", "divider"), make("span", "side left", "original"));
      this.overlay.append(make("span", "side right", label));
      this.stage.append(this.view, this.overlay, this.range, this.makeTools());
      this.range.addEventListener("input", () => this.cut());
      this.view.addEventListener("scroll", () => this.cut(), { passive: true });
      // the range lies above the picture, which the wheel still scrolls when it is enlarged
      this.range.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      new ResizeObserver(() => this.cut()).observe(this.view);
    }

    makeTools() {
      const tools = make("div", "tools");
      const toggle = (text, title, action) => {
        const button = make("button", "", text);
        button.type = "button";
        button.title = title;
        button.setAttribute("aria-pressed", "false");
        button.addEventListener("click", () => {
          const isOn = button.getAttribute("aria-pressed") !== "true";
          button.setAttribute("aria-pressed", String(isOn));
          action(isOn);
        });
        tools.append(button);
      };
      toggle(`Difference ×${GAIN}`, "absolute difference, amplified", (isOn) => this.differ(isOn));
      toggle(`Pixels ×${ZOOM}`, "enlarge without smoothing; scroll to move", (isOn) => this.zoom(isOn));
      return tools;
    }

    async load() {
      if (this.isLoaded) return;
      this.isLoaded = true;
      this.images.forEach((image, i) => {
        image.src = this.sources[i];
      });
      await Promise.all(this.images.map((image) => image.decode().catch(() => null)));
      const { naturalWidth, naturalHeight } = this.images[0];
      if (!naturalWidth) return;
      const share = naturalWidth / naturalHeight;
      this.view.style.aspectRatio = `${naturalWidth} / ${naturalHeight}`;
      this.stage.style.maxWidth = `${Math.round(share * TALLEST * window.innerHeight)}px`;
      this.figure.classList.add("ready");
      this.cut();
    }

    cut() {
      const share = Number(this.range.value) / 100;
      const place = this.view.scrollLeft + share * this.view.clientWidth;
      const width = this.inner.clientWidth || 1;
      this.images[0].style.clipPath = `inset(0 ${(100 * (1 - place / width)).toFixed(3)}% 0 0)`;
      this.overlay.style.setProperty("--cut", `${100 * share}%`);
    }

    wheel(event) {
      if (!this.stage.classList.contains("zoomed")) return;
      event.preventDefault();
      this.view.scrollBy(event.deltaX, event.deltaY);
    }

    differ(isOn) {
      if (isOn) paintDifference(this.canvas, ...this.images);
      this.canvas.hidden = !isOn;
      this.stage.classList.toggle("differing", isOn);
      this.range.disabled = isOn && !this.stage.classList.contains("zoomed");
    }

    zoom(isOn) {
      const { view, inner } = this;
      this.stage.classList.toggle("zoomed", isOn);
      inner.style.width = isOn ? `${100 * ZOOM}%` : "";
      view.tabIndex = isOn ? 0 : -1;
      view.scrollTo((inner.clientWidth - view.clientWidth) / 2, (inner.clientHeight - view.clientHeight) / 2);
      this.cut();
    }
  }

  const filter = (gallery) => {
    const selects = [...gallery.querySelectorAll("select")];
    let count = 0;
    for (const figure of gallery.querySelectorAll("figure.slide")) {
      const isShown = selects.every((s) => !s.value || figure.dataset[s.dataset.filter] === s.value);
      figure.hidden = !isShown;
      count += isShown;
    }
    const status = gallery.querySelector(".count");
    if (status) status.textContent = count === 1 ? "1 picture" : `${count} pictures`;
  };

  const slides = new Map();
  for (const figure of document.querySelectorAll("figure.slide")) slides.set(figure, new Slide(figure));

  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      observer.unobserve(entry.target);
      slides.get(entry.target).load();
    }
  }, { rootMargin: "600px" });
  for (const figure of slides.keys()) observer.observe(figure);
  window.addEventListener("beforeprint", () => slides.forEach((slide) => slide.load()));

  for (const gallery of document.querySelectorAll(".gallery")) {
    const filters = gallery.querySelector(".filters");
    if (filters) filters.hidden = false;
    gallery.addEventListener("change", (event) => {
      if (event.target.matches("select")) filter(gallery);
    });
    filter(gallery);
  }
})();
