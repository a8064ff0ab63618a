// Draws documents with their entities. Text of the data enters the page as text nodes and attributes' values alone.
(() => {
  const {D, h, whole, colour, tongue, boxes, marks, pages, themeButton} = kit;
  const main = document.getElementById("page");
  const SIZE = 50;
  const named = ([label, display]) => label === display ? label : `${label} (${display})`;
  const wanted = {labels: new Set(), search: "", bare: true};
  const view = {};

  function head() {
    main.append(h("header", null, h("h1", {lang: tongue(D.title)}, D.title),
      h("dl.facts", null, Object.entries(D.facts).map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))))),
    h("nav", null, h("span.gap"), themeButton()));
  }

  function filters() {
    view.search = h("input", {id: "search", type: "search", placeholder: "search ( / )", "aria-label": "search in texts",
      oninput: (event) => { wanted.search = event.target.value; apply(); }});
    view.bare = h("input", {id: "bare", type: "checkbox", checked: true, onchange: (event) => { wanted.bare = event.target.checked; apply(); }});
    view.count = h("span.soft", {id: "count", "aria-live": "polite"});
    view.labels = D.labels.map((label, place) => h("button.chip", {type: "button", "aria-pressed": "false", lang: tongue(label[0]), onclick: (event) => {
      const chosen = !wanted.labels.has(place);
      wanted.labels[chosen ? "add" : "delete"](place);
      event.target.closest("button").setAttribute("aria-pressed", String(chosen));
      apply();
    }}, h("i.dot", {"--c": colour(place)}), `${named(label)} ${whole(label[2])}`));
    view.pages = pages(SIZE, document_);
    const left = D.total - D.documents.length;
    main.append(h("section", {id: "documents"},
      left ? h("p.soft", null, `The first ${whole(D.documents.length)} of ${whole(D.total)} documents. nertune data show --first and --limit show others.`) : null,
      h("div.filters", null, view.search, h("label", null, view.bare, "those without entities too"), view.count),
      h("div.filters", {role: "group", "aria-label": "labels"}, view.labels),
      h("div.card", null, view.pages.nodes)));
  }

  function matches([number, , id, text, entities, absent]) {
    if (!wanted.bare && !entities.length) return false;
    if (wanted.labels.size && ![...entities.map((e) => e[2]), ...absent.map((e) => e[0])].some((place) => wanted.labels.has(place))) return false;
    const needle = wanted.search.toLowerCase();
    return !needle || text.toLowerCase().includes(needle) || String(id ?? "").toLowerCase() === needle || "#" + number === needle;
  }
  function apply() {
    const found = D.documents.filter(matches);
    view.count.textContent = `${whole(found.length)} of ${whole(D.total)} documents`;
    view.pages.show(found);
  }
  function document_([number, line, id, text, entities, absent]) {
    const drawn = boxes(Array.from(text), entities, {
      title: ([start, end, place, score]) => `${D.labels[place][0]} ${start}–${end}` + (score === null ? "" : `, score ${score}`),
      tag: ([, , place]) => named(D.labels[place]),
      text: (part) => marks(part, wanted.search),
    });
    return h("article.doc", null,
      h("div.soft", null, h("span", null, "#" + number), line !== null && line !== number && h("span", null, "line " + line), id !== null && h("bdi", null, id)),
      h("div.text", {lang: tongue(text), dir: "auto"}, drawn),
      absent.length ? h("p.nowhere", null, "✗ without a place in the text: ", absent.map(([place, shown], n) => [n ? ", " : "", h("bdi", {lang: tongue(shown)}, shown), h("span.tag", {"--c": colour(place)}, D.labels[place][0])])) : null);
  }

  head(); filters(); apply();
  kit.keys({search: view.search, turn: view.pages.turn});
  document.documentElement.dataset.ready = "yes";
})();
