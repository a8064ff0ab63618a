// Draws the report. Text of the data enters the page as text nodes and attributes' values of no effect alone.
(() => {
  const {D, h, s, whole, colour, tongue, themeButton, boxes, marks, pages} = kit;
  const main = document.getElementById("page");
  const CLASSES = Object.keys(D.classes);
  const SIZE = 25;
  const NOTHING = "(nothing)";
  const MOST_LABELS = 40;

  const percent = (x, digits = 1) => (100 * x).toFixed(digits) + "%";
  const four = (x) => x.toFixed(4);
  const figures = (v) => [four(v.precision), four(v.recall), four(v.f1), v.ci95 ? v.ci95.map(four).join("–") : "–"];
  const colourOf = (name) => { const place = D.labels.indexOf(name); return place < 0 ? "var(--c11)" : colour(place); };
  // A label as people are shown it: LOC (地点) where the model sees another name.
  const shown = (name) => D.display && Object.hasOwn(D.display, name) ? `${name} (${D.display[name]})` : name;
  // ---- top: what it is, the figure, what to know -----------------------------------------------------------------
  const measures = Object.fromEntries(Object.keys(D.measures).map((name) => [name, D.evaluation.metrics[name] || D.evaluation.semeval[name]]));
  const span = measures.span;

  function head() {
    const links = [["summary", "Summary"], ["labels", "Labels"], ["errors", "Errors"], ["curves", "Curves"], ["sentences", "Sentences"]];
    main.append(
      h("header", null, h("h1", {lang: tongue(D.title)}, D.title),
        h("dl.facts", null, Object.entries(D.facts).map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))))),
      h("nav", {"aria-label": "sections"}, links.map(([id, name]) => h("a", {href: "#" + id}, name)), h("span.gap"), themeButton()));
  }

  function summary() {
    const micro = span.micro;
    const e = D.evaluation;
    const tiles = [["precision", percent(micro.precision)], ["recall", percent(micro.recall)], ["macro F1", percent(span.macro.f1)],
      ["texts all right", D.errors.documents ? percent(D.errors.perfect / D.errors.documents, 0) : "–"]];
    if (measures.text) tiles.push(["F1 by text alone", percent(measures.text.micro.f1)]);
    if (e.truncated) tiles.push(["cut off", whole(e.truncated)]);
    if (e.invalid_answers) tiles.push(["unreadable", whole(e.invalid_answers)]);
    const list = (kind, title) => D.summary[kind].length
      ? h("div.card", null, h("h3", null, title), h("ul.points." + kind, null, D.summary[kind].map((line) => h("li", null, line)))) : null;
    main.append(h("section", {id: "summary", "aria-label": "Summary"},
      h("div.card.hero", null,
        h("div", null, h("div.soft", null, "F1 by label and place"), h("div.big", null, (100 * micro.f1).toFixed(1), h("small", null, " %")),
          chart(interval(micro), "the F1 and its 95% interval")),
        h("div", null, h("p.headline", null, D.summary.headline),
          h("dl.tiles", null, tiles.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))))),
      h("div.grid", {"--gap": "1rem"}, list("good", "What is good"), list("bad", "What is bad"), list("look", "What to look at"))));
    main.lastChild.lastChild.style.marginTop = "1rem";
  }

  // ---- charts: functions of a width, drawn again when the page changes its width -----------------------------------
  const charts = [];
  function chart(draw, caption, shown) {
    const place = h("div");
    charts.push(() => {
      const width = place.clientWidth || 320;
      const drawn = draw(width);
      drawn.setAttribute("role", "img");
      drawn.setAttribute("aria-label", caption);
      place.replaceChildren(drawn);
    });
    return h("figure", null, place, shown ? h("figcaption", null, shown) : null);
  }
  function canvas(width, height) { return s("svg", {viewBox: `0 0 ${width} ${height}`, width, height}); }
  function label(x, y, text, more) { return s("text", {x, y, ...more}, text); }

  function interval(micro) {
    return (width) => {
      const svg = canvas(width, 44);
      const at = (x) => 6 + x * (width - 12);
      svg.append(s("line", {class: "axis", x1: at(0), x2: at(1), y1: 16, y2: 16, "stroke-width": 6, "stroke-linecap": "round"}));
      if (micro.ci95) {
        const [low, high] = micro.ci95;
        svg.append(s("line", {x1: at(low), x2: at(high), y1: 16, y2: 16, stroke: "var(--accent)", "stroke-opacity": .45, "stroke-width": 6}));
        svg.append(label(0, 40, `95% interval ${percent(low)} to ${percent(high)}`));
      }
      svg.append(s("circle", {cx: at(micro.f1), cy: 16, r: 6, fill: "var(--accent)"}));
      return svg;
    };
  }

  // A plain chart of lines and points: series of [x, y], with axes from 0 or as told.
  function lines(series, {x: [x0, x1], y: [y0, y1], xName, yName, height = 250, diagonal = false, xs = ticks(x0, x1), ys = ticks(y0, y1)}) {
    return (width) => {
      const left = 46, right = 12, top = 12, bottom = 40;
      const svg = canvas(width, height);
      const px = (v) => left + (v - x0) / (x1 - x0 || 1) * (width - left - right);
      const py = (v) => height - bottom - (v - y0) / (y1 - y0 || 1) * (height - top - bottom);
      for (const v of ys) svg.append(s("line", {class: "axis", x1: left, x2: width - right, y1: py(v), y2: py(v)}),
        label(left - 6, py(v) + 4, short(v), {"text-anchor": "end"}));
      for (const v of xs) svg.append(label(px(v), height - bottom + 17, short(v), {"text-anchor": "middle"}));
      svg.append(label((left + width - right) / 2, height - 4, xName, {"text-anchor": "middle"}));
      svg.append(label(12, (top + height - bottom) / 2, yName, {"text-anchor": "middle", transform: `rotate(-90 12 ${(top + height - bottom) / 2})`}));
      if (diagonal) svg.append(s("line", {x1: px(0), y1: py(0), x2: px(1), y2: py(1), stroke: "var(--soft)", "stroke-dasharray": "4 4"}));
      for (const {points, stroke, dash, dots, area} of series) {
        if (area) for (const [a, b, v] of area) svg.append(s("rect", {x: px(a) + 1, y: py(v), width: Math.max(px(b) - px(a) - 2, 1), height: py(y0) - py(v), fill: stroke, "fill-opacity": .18}));
        if (points.length > 1 && !area) svg.append(s("polyline", {class: "curve", stroke, "stroke-dasharray": dash, points: points.map(([a, b]) => `${px(a).toFixed(1)},${py(b).toFixed(1)}`).join(" ")}));
        if (dots || points.length === 1) for (const [a, b, note] of points) {
          svg.append(s("circle", {cx: px(a), cy: py(b), r: 3.5, fill: stroke}, s("title", null, note || `${short(a)}: ${short(b)}`)));
        }
      }
      return svg;
    };
  }
  function ticks(low, high, count = 5) {
    const raw = (high - low || 1) / count;
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * unit).find((v) => v >= raw * .999);
    const found = [];
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) found.push(v);
    return found;
  }
  const short = (v) => Math.abs(v) < 1e-12 ? "0" : Number.isInteger(v) ? whole(v) : Number(v.toPrecision(3)).toString();
  function legend(entries) {
    return h("div.legend", null, entries.map(([name, stroke]) => h("span", null, h("i", {"--c": stroke}), name)));
  }

  // ---- labels ------------------------------------------------------------------------------------------------------
  function labels() {
    const place = h("div.grid");
    const names = Object.keys(measures);
    const buttons = names.map((name) => h("button", {type: "button", "aria-pressed": "false", onclick: () => choose(name)}, name));
    const about = h("p.soft");
    function choose(name) {
      buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(names[place] === name)));
      about.textContent = "Measure " + name + ": " + (D.measures[name] || "") + ".";
      const scores = measures[name];
      const rows = Object.entries(scores.labels).sort((a, b) => b[1].f1 - a[1].f1 || (a[0] < b[0] ? -1 : 1));
      place.replaceChildren(
        h("div.card", null, h("h3", null, "F1 by label"), chart(byLabel(rows, scores), "F1 by label",
          rows.some(([, score]) => score.ci95) ? "Lines: 95% interval. Upright line: all labels together." : "Upright line: all labels together.")),
        h("div.card.scroll", null, table(["label", "precision", "recall", "F1", "95% interval", "support"],
          rows.map(([name, v]) => [h("span", {lang: tongue(shown(name))}, shown(name)), ...figures(v), whole(v.support)]),
          [["micro", scores.micro], ["macro", scores.macro]].map(([name, v]) => [name, ...figures(v), ""]))));
      charts.slice(-1)[0]();
    }
    main.append(h("section", {id: "labels"}, h("h2", null, "Labels"), h("div.filters", null, buttons), about, place));
    choose(names.includes("span") ? "span" : names[0]);
  }
  function byLabel(rows, scores) {
    return (width) => {
      const step = 26, left = Math.min(150, width * .36), right = 44;
      const svg = canvas(width, rows.length * step + 26);
      const at = (x) => left + x * (width - left - right);
      for (const v of [0, .25, .5, .75, 1]) svg.append(s("line", {class: "axis", x1: at(v), x2: at(v), y1: 0, y2: rows.length * step}),
        label(at(v), rows.length * step + 18, percent(v, 0), {"text-anchor": "middle"}));
      svg.append(s("line", {x1: at(scores.micro.f1), x2: at(scores.micro.f1), y1: 0, y2: rows.length * step, stroke: "var(--soft)", "stroke-dasharray": "3 3"}));
      rows.forEach(([name, score], place) => {
        const title = shown(name), y = place * step + 13, characters = [...title];
        const most = Math.max(4, Math.floor(left / (tongue(title) ? 13 : 7.5)));
        svg.append(label(left - 8, y + 4, characters.length > most ? characters.slice(0, most - 1).join("") + "…" : title, {class: "ink", "text-anchor": "end", lang: tongue(title)}));
        if (score.ci95) svg.append(s("line", {x1: at(score.ci95[0]), x2: at(score.ci95[1]), y1: y, y2: y, stroke: colourOf(name), "stroke-width": 2, "stroke-opacity": .6}));
        else svg.append(s("line", {x1: at(0), x2: at(score.f1), y1: y, y2: y, stroke: colourOf(name), "stroke-width": 2, "stroke-opacity": .35}));
        svg.append(s("circle", {cx: at(score.f1), cy: y, r: 5, fill: colourOf(name)}, s("title", null, `${title}: F1 ${four(score.f1)}, ${score.support} mentions`)),
          label(width, y + 4, percent(score.f1), {"text-anchor": "end"}));
      });
      return svg;
    };
  }
  function table(names, rows, sums = []) {
    const row = (cells, kind) => h("tr" + kind, null, cells.map((cell) => h("td", null, cell)));
    return h("table", null, h("thead", null, h("tr", null, names.map((name) => h("th", {scope: "col"}, name)))),
      h("tbody", null, rows.map((cells) => row(cells, "")), sums.map((cells) => row(cells, ".sum"))));
  }

  // ---- errors ------------------------------------------------------------------------------------------------------
  function errors() {
    const wrong = CLASSES.filter((name) => name !== "correct");
    const most = Math.max(1, ...wrong.map((name) => D.errors.classes[name].count));
    const bars = wrong.map((name) => {
      const count = D.errors.classes[name].count;
      return h("button.bar", {type: "button", title: D.classes[name], disabled: !count, onclick: () => show({kind: name})},
        h("b", null, name), h("span.track", null, h("span.fill.wrong", {"--w": "0"})), h("span", null, whole(count)));
    });
    bars.forEach((bar, place) => { bar.querySelector(".fill").style.width = 100 * D.errors.classes[wrong[place]].count / most + "%"; });
    main.append(h("section", {id: "errors"}, h("h2", null, "Errors"),
      h("p.soft", null, `${whole(D.errors.gold)} annotated mentions and ${whole(D.errors.predicted)} predicted ones, each in exactly one class; ` +
        `${whole(D.errors.classes.correct.count)} are correct. Choose a class or a cell to see its sentences.`),
      h("div.grid", null, h("div.card", null, h("h3", null, "Errors by class"), bars), parts()),
      confusion(), mistakes()));
  }

  function parts() {
    const body = h("div");
    const select = h("select", {"aria-label": "breakdown", onchange: () => draw(select.value)},
      Object.entries(D.breakdowns).filter(([name]) => name !== "label").map(([name, text]) => h("option", {value: name}, text)));
    function draw(name) {
      const rows = D.errors.breakdowns[name] || [];
      body.replaceChildren(h("div.scroll", null, table([name, "precision", "recall", "F1", "annotated", "predicted"],
        rows.map((row) => [row.name, row.predicted ? percent(row.precision) : "–", row.gold ? percent(row.recall) : "–",
          row.gold ? percent(row.f1) : "–", whole(row.gold), whole(row.predicted)]))));
    }
    if (select.options.length) draw(select.value);
    return h("div.card", null, h("h3", null, "Where it goes wrong"), h("div.filters", null, select), body);
  }

  function confusion() {
    const cells = new Map(D.errors.confusion.map((cell) => [JSON.stringify([cell.gold, cell.predicted]), cell.count]));
    if (!cells.size) return null;
    const left = Math.max(D.labels.length - MOST_LABELS, 0);
    const sides = [...D.labels.slice(0, MOST_LABELS), null];
    const said = (name) => name === null ? NOTHING : shown(name);
    const strongest = Math.max(...D.errors.confusion.filter((cell) => cell.gold !== cell.predicted).map((cell) => cell.count), 1);
    const totals = new Map();
    for (const {gold, count} of D.errors.confusion) totals.set(gold, (totals.get(gold) || 0) + count);
    const cell = (gold, predicted) => {
      const count = cells.get(JSON.stringify([gold, predicted])) || 0;
      const right = gold === predicted;
      const share = count ? 12 + 78 * (right ? count / totals.get(gold) : Math.sqrt(count / strongest)) : 0;
      if (gold === null && predicted === null) return h("td");
      return h(right ? "td" : "td.off", null, h(share > 55 ? "button.strong" : "button", {type: "button", disabled: !count, "--share": share + "%",
        title: `annotated ${said(gold)}, predicted ${said(predicted)}: ${count}`, onclick: () => show({pair: [gold, predicted]})}, count ? whole(count) : "·"));
    };
    const matrix = h("table.matrix", null,
      h("thead", null, h("tr", null, h("th.soft", null, "annotated ↓ predicted →"), sides.map((name) => h("th", {scope: "col", title: said(name)}, h("span", {lang: tongue(name ?? "")}, said(name)))))),
      h("tbody", null, sides.map((gold) => h("tr", null, h("th", {scope: "row", title: said(gold), lang: tongue(gold ?? "")}, said(gold)), sides.map((name) => cell(gold, name))))));
    const card = h("div.card", null, h("h3", null, "Confusion of labels"), h("div.scroll", null, matrix),
      h("p.soft", null, "On the diagonal the right label, wrong boundaries included; last column: not found; last row: not annotated.",
        left ? ` The ${MOST_LABELS} most frequent labels; ${whole(left)} more are in report.json.` : ""));
    card.style.marginTop = "1rem";
    return card;
  }

  function mistakes() {
    const name = (mention) => mention ? h("span", {lang: tongue(mention[1])}, `${mention[1]} `, h("span.tag", {"--c": colourOf(mention[0])}, shown(mention[0]))) : "nothing";
    const there = new Set(D.documents.map(([number]) => number));
    const goto = (number) => h("button", {type: "button", disabled: !there.has(number), onclick: () => show({number}),
      title: there.has(number) ? "show this sentence" : "left out to keep this file small"}, "text " + number);
    const examples = (item) => h("div.filters", null, item.examples.map((example) => goto(example.document)));
    const side = (label) => label === null ? "nothing" : h("span.tag", {"--c": colourOf(label), lang: tongue(label)}, shown(label));
    const first = ({gold, predicted, context}) => h("p.soft", {lang: tongue(context)},
      h("b", null, gold ? gold.text : "nothing"), " → ", h("b", null, predicted ? predicted.text : "nothing"), ": ", context);
    const patterns = D.errors.patterns.map((item) => h("div.item", null,
      h("p", null, h("span.count", null, whole(item.count) + "×"), h("span.soft", null, item.class + ": "), side(item.gold), " → ", side(item.predicted)),
      first(item.examples[0]), examples(item)));
    const repeated = D.errors.mistakes.map((item) => h("div.item", null,
      h("p", null, h("span.count", null, whole(item.count) + "×"), h("span.soft", null, item.class + ": "), name(item.gold), " → ", name(item.predicted)),
      examples(item)));
    const suspects = D.errors.suspects.map((item) => h("div.item", null,
      h("p", null, h("span.count", null, percent(item.score)), "annotated ", name(item.gold && [item.gold.label, item.gold.text]), " – the model is sure of ",
        name(item.predicted && [item.predicted.label, item.predicted.text])),
      h("p.soft", {lang: tongue(item.context)}, item.context), h("div.filters", null, goto(item.document))));
    const none = D.errors.scored ? "Nowhere is the model sure of something else." : "The predictions have no scores, so that nothing can be said.";
    const left = D.errors.suspected - suspects.length;
    const grid = h("div.grid", null,
      h("div.card", null, h("h3", null, "Most frequent errors"), patterns.length ? h("div.long", {tabindex: 0}, patterns) : h("p.soft", null, "There are no errors.")),
      h("div.card", null, h("h3", null, "Repeated mistakes"), repeated.length ? h("div.long", {tabindex: 0}, repeated) : h("p.soft", null, "No mistake was made twice.")),
      h("div.card", null, h("h3", null, "Likely errors of the annotation"), left > 0 && h("p.soft", null, `The ${suspects.length} surest of ${whole(D.errors.suspected)}.`), suspects.length ? h("div.long", {tabindex: 0}, suspects) : h("p.soft", null, none)));
    grid.style.marginTop = "1rem";
    return grid;
  }

  // ---- curves ------------------------------------------------------------------------------------------------------
  function curves() {
    const cards = [];
    const add = (title, ...rest) => cards.push(h("div.card", null, h("h3", null, title), rest));
    const t = D.training;
    const steps = [...(t.loss || []), ...(t.eval_loss || []), ...(t.eval_f1 || [])].map(([step]) => step);
    const last = Math.max(1, ...steps);
    if (t.loss || t.eval_loss) {
      const top = Math.max(...[...(t.loss || []), ...(t.eval_loss || [])].map(([, v]) => v));
      add("Training: loss", legend([["training", "var(--c0)"], ...(t.eval_loss ? [["validation", "var(--c1)"]] : [])]),
        chart(lines([{points: t.loss || [], stroke: "var(--c0)"}, {points: t.eval_loss || [], stroke: "var(--c1)", dots: true}],
          {x: [0, last], y: [0, top], xName: "optimizer step", yName: "nats per token"}), "loss over optimizer steps"));
    }
    if (t.eval_f1) add("Training: F1 of the validation part", chart(lines([{points: t.eval_f1, stroke: "var(--c2)", dots: true}],
      {x: [0, last], y: [0, 1], xName: "optimizer step", yName: "F1 (text)"}), "F1 over optimizer steps"));
    if (D.thresholds) {
      const points = D.thresholds.points.filter((p) => p.recall > 0);
      add("Precision and recall by threshold", chart(lines([{points: points.map((p) => [p.recall, p.precision, `threshold ${p.threshold}: precision ${percent(p.precision)}, recall ${percent(p.recall)}`]), stroke: "var(--c0)", dots: true}],
        {x: [0, 1], y: [0, 1], xName: "recall", yName: "precision"}), "precision over recall", "Each point leaves out entities below a threshold (point at it to see which)."));
      add("F1 by threshold", legend([["F1", "var(--c0)"], ["precision", "var(--c1)"], ["recall", "var(--c2)"]]),
        chart(lines([["f1", 0, null], ["precision", 1, "6 3"], ["recall", 2, "2 3"]].map(([key, c, dash]) => ({points: points.map((p) => [p.threshold, p[key]]), stroke: `var(--c${c})`, dash})),
          {x: [0, 1], y: [0, 1], xName: "least score", yName: "value"}), "F1, precision and recall over the least score",
        `Highest F1 at ${short(D.thresholds.best)}, as far as these texts tell.`));
    }
    if (D.calibration) {
      const bins = D.calibration.bins.filter((bin) => bin.size);
      const most = Math.max(1, ...bins.map((bin) => bin.size));
      add("Can scores be trusted?", chart(lines([
        {points: [], stroke: "var(--soft)", area: bins.map((bin) => [bin.low, bin.high, .35 * bin.size / most])},
        {points: bins.map((bin) => [bin.score, bin.right, `score ${percent(bin.score)}: ${percent(bin.right)} right of ${bin.size}`]), stroke: "var(--c0)", dots: true}],
        {x: [0, 1], y: [0, 1], xName: "score", yName: "share that is right", diagonal: true}), "share of right entities over their score",
        `On the dashed line a score of 80% is right in 80 of 100 cases. Expected calibration error ${four(D.calibration.ece)}; grey: how many entities lie there.`));
    }
    if (!cards.length) cards.push(h("p.soft", null, "The predictions have no scores, so there are no curves of thresholds; and no training was recorded with this evaluation."));
    main.append(h("section", {id: "curves"}, h("h2", null, "Curves"), h("div.grid", null, cards)));
  }

  // ---- sentences ---------------------------------------------------------------------------------------------------
  const wanted = {kind: "", label: "", search: "", wrong: true, pair: null, number: null};
  let view;

  function matches(row) {
    const [number, , text, gold, named, nowhere] = row;
    if (wanted.number !== null) return number === wanted.number;
    const kind = wanted.kind ? CLASSES.indexOf(wanted.kind) : -1;
    const label = wanted.label ? D.labels.indexOf(wanted.label) : -1;
    const right = CLASSES.indexOf("correct");
    if (wanted.wrong && kind !== right && !row[6] && ![...gold, ...named].some((e) => e[3] !== right) && !nowhere.length) return false;
    if (kind >= 0 || label >= 0) {
      const fits = (c, l) => (kind < 0 || c === kind) && (label < 0 || l === label);
      if (![...gold, ...named].some((e) => fits(e[3], e[2])) && !nowhere.some((e) => fits(e[2], e[0]))) return false;
    }
    if (wanted.pair && !pairs(row).some(([a, b]) => a === wanted.pair[0] && b === wanted.pair[1])) return false;
    if (wanted.search) {
      const needle = wanted.search.toLowerCase();
      if (!text.toLowerCase().includes(needle) && String(row[1] ?? "").toLowerCase() !== needle && "#" + number !== needle &&
        !nowhere.some((e) => e[1].toLowerCase().includes(needle))) return false;
    }
    return true;
  }
  function pairs([, , , gold, named, nowhere]) {
    const name = (place) => D.labels[place];
    const taken = new Set(gold.map((e) => e[4]));
    return [...gold.map((e) => [name(e[2]), e[4] < 0 ? null : name(named[e[4]][2])]),
      ...named.filter((_, place) => !taken.has(place)).map((e) => [null, name(e[2])]), ...nowhere.map((e) => [null, name(e[0])])];
  }

  function sentences() {
    const change = (key, read) => (event) => { wanted[key] = read(event.target); wanted.number = null; apply(); };
    view = {
      kind: h("select", {id: "kind", "aria-label": "error class", onchange: change("kind", (t) => t.value)}, h("option", {value: ""}, "all classes"), CLASSES.map((name) => h("option", {value: name}, `${name} (${whole(D.errors.classes[name].count)})`))),
      label: h("select", {id: "label", "aria-label": "label", onchange: change("label", (t) => t.value)}, h("option", {value: ""}, "all labels"), D.labels.map((name) => h("option", {value: name}, shown(name)))),
      search: h("input", {id: "search", type: "search", placeholder: "search ( / )", "aria-label": "search in texts", oninput: change("search", (t) => t.value)}),
      wrong: h("input", {id: "wrong", type: "checkbox", onchange: change("wrong", (t) => t.checked)}),
      chips: h("span"), count: h("span.soft", {id: "count", "aria-live": "polite"}), pages: pages(SIZE, sentence),
    };
    const left = D.total - D.documents.length;
    main.append(h("section", {id: "sentences"}, h("h2", null, "Sentences"),
      h("p.soft", null, "Annotated, and beside or below it predicted. Dashed and ✗: wrong, with its class. Keys: / searches, ← and → turn pages.",
        left ? ` ${whole(left)} of ${whole(D.total)} texts, right ones first, are left out to keep this file small.` : ""),
      h("div.filters", null, view.search, view.kind, view.label, h("label", null, view.wrong, "only wrong ones"), view.chips, view.count),
      h("div.legend", null, D.labels.slice(0, MOST_LABELS).map((name, place) => h("span", {lang: tongue(name)}, h("i", {"--c": colour(place)}), shown(name)))),
      h("div.card", null, view.pages.nodes)));
    apply();
  }
  function show(change) {
    Object.assign(wanted, {kind: "", label: "", search: "", wrong: false, pair: null, number: null}, change);
    apply();
    document.getElementById("sentences").scrollIntoView();
  }
  function apply() {
    view.kind.value = wanted.kind; view.label.value = wanted.label; view.wrong.checked = wanted.wrong;
    if (view.search.value !== wanted.search) view.search.value = wanted.search;
    const chip = (text, clear) => h("button.chip", {type: "button", title: "remove this filter", onclick: () => { Object.assign(wanted, clear); apply(); }}, text + " ✕");
    view.chips.replaceChildren(...[
      wanted.pair && chip(wanted.pair.map((name) => name === null ? NOTHING : shown(name)).join(" → "), {pair: null}),
      wanted.number !== null && chip("text " + wanted.number, {number: null})].filter(Boolean));
    const found = D.documents.filter(matches);
    view.count.textContent = `${whole(found.length)} of ${whole(D.total)} texts`;
    view.pages.show(found);
  }
  function sentence([number, id, text, gold, named, nowhere, remark]) {
    const chars = Array.from(text);  // offsets count code points
    const language = tongue(text);
    const side = (title, entities, said) => h("div.side", null, h("h4", null, title), h("div.text", {lang: language, dir: "auto"}, marked(chars, entities, said)));
    const absent = nowhere.length ? h("p.nowhere", null, "✗ not in the text: ", nowhere.map(([place, name], n) => [n ? ", " : "", h("bdi", {lang: tongue(name)}, name), h("span.tag", {"--c": colour(place)}, shown(D.labels[place]))])) : null;
    const remarks = {cut: "the answer or the text was cut off", unreadable: "the answer could not be read"};
    return h("article.doc", null,
      h("div.soft", null, h("span", null, "#" + number), id !== null && h("bdi", null, id), remark && h("span", null, remarks[remark])),
      h("div.pair", null, side("annotated", gold, (e) => e[4] < 0), h("div", null, side("predicted", named, () => true), absent)));
  }

  // A gold mention with a partner leaves it to that one to say what is wrong.
  function marked(chars, entities, said) {
    const off = (e) => CLASSES[e[3]] !== "correct";
    return boxes(chars, entities, {
      off,
      title: (e) => `${shown(D.labels[e[2]])}, ${CLASSES[e[3]]}: ${D.classes[CLASSES[e[3]]]}`,
      tag: (e) => shown(D.labels[e[2]]) + (off(e) && said(e) ? " · " + CLASSES[e[3]] : ""),
      text: (part) => marks(part, wanted.search),
    });
  }

  function recipe() {
    if (D.recipe) main.append(h("section", {id: "recipe"}, h("details.card", null, h("summary", null, "The recipe of the training"), h("pre", null, D.recipe))));
  }

  head(); summary(); labels(); errors(); curves(); sentences(); recipe();
  const redraw = () => charts.forEach((drawn) => drawn());
  redraw();
  let waiting;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(redraw, 120); });
  kit.keys({search: view.search, turn: view.pages.turn});
  document.documentElement.dataset.ready = "yes";
})();
