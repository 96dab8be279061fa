// Scales of charts: from values to pixels, with round ticks.
const scales = (() => {
  "use strict";

  // three significant digits without trailing zeros, and no exponents where plain is short
  const short = (value) => {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e5 || size < 1e-4) return value.toExponential(0).replace("e+", "e");
    return String(Number(value.toPrecision(3)));
  };

  const linear = (low, high, count) => {
    if (low === high) [low, high] = [low - Math.abs(low || 1) / 10, high + Math.abs(high || 1) / 10];
    const rough = (high - low) / count;
    const unit = 10 ** Math.floor(Math.log10(rough));
    const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= rough * 0.999);
    const ticks = [];
    const start = Math.floor(low / step + 1e-9);
    const end = Math.ceil(high / step - 1e-9);
    for (let i = start; i <= end; i += 1) ticks.push(Number((i * step).toPrecision(12)));
    const [a, b] = [ticks[0], ticks[ticks.length - 1]];
    return { ticks, at: (value) => (value - a) / (b - a) };
  };

  const log = (low, high, count) => {
    if (low === high) [low, high] = [low / 2, high * 2];
    const pad = (high / low) ** 0.04;
    const [a, b] = [Math.log10(low / pad), Math.log10(high * pad)];
    for (const factors of [[1, 2, 3, 5], [1, 2, 5], [1, 3], [1]]) {
      const ticks = [];
      for (let i = Math.floor(a); i <= b; i += 1) {
        for (const factor of factors) {
          const exponent = i + Math.log10(factor);
          if (exponent >= a && exponent <= b) ticks.push(Number((factor * 10 ** i).toPrecision(6)));
        }
      }
      if (ticks.length <= count || factors.length === 1) {
        return { ticks, at: (value) => (Math.log10(value) - a) / (b - a) };
      }
    }
    return null;
  };

  const categories = (names) => ({
    ticks: names.map((_, i) => i),
    at: (value) => (value + 0.5) / names.length,
  });

  return { short, linear, log, categories };
})();
