"use strict";
// What nertune's pages share: elements made without markup, colours of labels, entities as boxes in boxes, lists in pages.
const kit = (() => {
  const D = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";

  // h("div.card", {title: "…"}, child, "text", …): an element; children are nodes or become text.
  function h(what, attributes, ...children) {
    const [tag, ...classes] = what.split(".");
    const element = document.createElement(tag);
    if (classes.length) element.className = classes.join(" ");
    return fill(element, attributes, children);
  }
  function s(tag, attributes, ...children) {
    return fill(document.createElementNS(SVG, tag), attributes, children);
  }
  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "onclick" || name === "oninput" || name === "onchange") element[name] = value;
      else if (name.startsWith("--")) element.style.setProperty(name, value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, seen(String(value)));
    }
    for (const child of children.flat(Infinity)) {
      if (child !== null && child !== undefined && child !== false) element.append(child instanceof Node ? child : seen(String(child)));
    }
    return element;
  }
  // Controls, bidi controls and characters without width as ⟨U+202E⟩: as nertune.console.visible shows them in a terminal.
  const STEERING = /[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
  const seen = (text) => text.replace(STEERING, (found) => `⟨U+${found.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
  const whole = (n) => n.toLocaleString("en");
  const colour = (label) => `var(--c${label % 12})`;
  // Han characters look different in Chinese, Japanese and Korean: the browser needs to be told.
  const tongue = (text) => /[\u3040-\u30ff]/.test(text) ? "ja" : /[\uac00-\ud7af]/.test(text) ? "ko" : /[\u4e00-\u9fff]/.test(text) ? "zh-Hans" : null;

  function themeButton() {
    return h("button", {type: "button", title: "light or dark", "aria-label": "light or dark", onclick: () => {
      const root = document.documentElement;
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
    }}, "◐");
  }

  // The text as nodes, entities [start, end, place of the label, …] as boxes in boxes, each ended by a tag; one that crosses
  // another's edge is closed there and goes on in a new box. `chars`: by code points, as offsets count. Functions of an
  // entity: `title`, `tag` (its words), `off` (whether it is wrong); of a stretch of text: `text` (its nodes).
  function boxes(chars, entities, {title, tag, off = () => false, text}) {
    const order = entities.map((e, place) => [e, place]).sort(([a], [b]) => a[0] - b[0] || b[1] - a[1] || a[2] - b[2]);
    const edges = [...new Set([0, chars.length, ...entities.flatMap((e) => [e[0], e[1]])])].sort((a, b) => a - b);
    const deep = new Map();
    const height = (e) => {  // how many boxes stand inside
      if (!deep.has(e)) deep.set(e, 1 + Math.max(-1, ...entities.filter((o) => o !== e && o[0] >= e[0] && o[1] <= e[1] && (o[1] - o[0] < e[1] - e[0])).map(height)));
      return deep.get(e);
    };
    const root = document.createDocumentFragment();
    const open = [];
    let next = 0;
    const top = () => open.length ? open[open.length - 1].node : root;
    const begin = (e) => {
      const node = h(`span.e.d${Math.min(height(e), 3)}` + (off(e) ? ".off" : ""), {"--c": colour(e[2]), title: title(e)});
      top().append(node);
      open.push({e, node});
    };
    const end = ({e, node}) => {
      node.append(h("span.tag" + (off(e) ? ".off" : ""), {"--c": colour(e[2]), lang: tongue(tag(e))}, tag(e)));
    };
    edges.forEach((position, place) => {
      const again = [];
      while (open.some(({e}) => e[1] <= position)) {
        const last = open.pop();
        if (last.e[1] <= position) end(last); else again.push(last.e);
      }
      again.reverse().forEach(begin);
      while (next < order.length && order[next][0][0] === position) begin(order[next++][0]);
      if (place + 1 < edges.length) fill(top(), null, text(chars.slice(position, edges[place + 1]).join("")));
    });
    return root;
  }
  // A stretch of text as nodes, what is searched marked in it.
  function marks(text, search) {
    const needle = search.toLowerCase(), low = text.toLowerCase();
    if (!needle || low.length !== text.length) return [text];
    const parts = [];
    let from = 0;
    for (let at = low.indexOf(needle); at >= 0; at = low.indexOf(needle, from)) {
      parts.push(text.slice(from, at), h("mark", null, text.slice(at, at + needle.length)));
      from = at + needle.length;
    }
    return [...parts, text.slice(from)];
  }

  // A list shown `size` rows at a time: its `nodes`, `show(rows)` from the first page, `turn(by)` by so many pages.
  function pages(size, draw) {
    const list = h("div", {id: "list"}), pagers = [];
    let rows = [], page = 0;
    const last = () => Math.max(1, Math.ceil(rows.length / size)) - 1;
    function drawn() {
      for (const {before, after, where} of pagers) {
        before.disabled = page === 0; after.disabled = page >= last(); where.textContent = `page ${page + 1} of ${last() + 1}`;
      }
      const shown = rows.slice(page * size, (page + 1) * size);
      list.replaceChildren(...(shown.length ? shown.map(draw) : [h("p.soft", null, "No text fits these filters.")]));
    }
    function turn(by) {
      page = Math.min(Math.max(page + by, 0), last());
      drawn();
      list.closest("section").scrollIntoView();
    }
    const pager = () => {
      const where = h("span.soft");
      const before = h("button", {type: "button", onclick: () => turn(-1)}, "← previous");
      const after = h("button", {type: "button", onclick: () => turn(1)}, "next →");
      pagers.push({before, after, where});
      return h("div.pager", null, before, after, where);
    };
    return {nodes: [pager(), list, pager()], turn, show: (found) => { rows = found; page = 0; drawn(); }};
  }

  // Keys: / searches, Escape leaves a field, ← and → turn pages.
  function keys({search, turn}) {
    addEventListener("keydown", (event) => {
      const typing = /^(input|select|textarea)$/i.test(event.target.tagName || "");
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "/" && !typing) { event.preventDefault(); search.focus(); }
      else if (event.key === "Escape" && typing) event.target.blur();
      else if (event.key === "ArrowLeft" && !typing) turn(-1);
      else if (event.key === "ArrowRight" && !typing) turn(1);
    });
  }

  return {D, h, s, whole, colour, tongue, themeButton, boxes, marks, pages, keys};
})();
