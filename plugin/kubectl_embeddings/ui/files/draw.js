// Builds the parts of the page. All that comes from the cluster becomes text, never markup. Called by page.js.

const numbers = new Intl.NumberFormat("en");

export function shown(value) {
  return value === null || value === undefined ? "" : numbers.format(value);
}

// An element with these properties and children. Strings become text nodes.
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") made.className = value;
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

// Shows one element for each item. Those that did not change stay as they are, and the keyboard's focus stays where it is.
export function list(parent, items, build) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const children = items.map((item) => {
    const content = JSON.stringify(item);
    const old = before.get(item.key);
    if (old && old.content === content) return old;
    const made = build(item);
    made.dataset.key = item.key;
    made.content = content;
    return made;
  });
  const focus = parent.contains(document.activeElement) ? document.activeElement : null;
  const place = focus && { key: focus.closest("[data-key]")?.dataset.key, name: focus.dataset.focus };
  if (children.length !== parent.children.length || children.some((child, index) => child !== parent.children[index])) {
    parent.replaceChildren(...children);
  }
  if (focus && document.activeElement !== focus && place.key !== undefined) {
    const row = children.find((child) => child.dataset.key === place.key);
    [...(row?.querySelectorAll("[data-focus]") ?? [])].find((one) => one.dataset.focus === place.name)?.focus();
  }
}

export function total(item) {
  return element("div", {}, element("dt", {}, item.title), element("dd", {}, item.value, element("small", {}, item.more ?? "")));
}

function word(source) {
  return element("span", { class: `word ${source.level}` }, source.status);
}

function named(item, everywhere) {
  return everywhere ? `${item.namespace}/${item.name}` : item.name;
}

function command(text, announce) {
  const button = element("button", { type: "button", "aria-label": `Copy: ${text}` }, "Copy");
  button.dataset.focus = text;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      announce("Copied");
    } catch {
      getSelection().selectAllChildren(button.previousElementSibling);
      button.textContent = "Selected";
      announce("The command is selected: copy it with the keyboard");
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return element("div", { class: "command" }, element("code", {}, text), button);
}

function runbook(address, about) {
  if (!address) return null;
  const link = element("a", { href: address, target: "_blank", rel: "noreferrer", "aria-label": `Runbook: ${about}` }, "Runbook");
  link.dataset.focus = address + about;
  return link;
}

export function attention(everywhere, announce) {
  return (source) => {
    const said = source.attention.flatMap((one) => [
      element("p", {}, one.sentence, one.runbook ? " " : "", runbook(one.runbook, one.sentence)),
      ...(one.command ? [command(one.command, announce)] : []),
    ]);
    return element("li", {}, element("div", { class: "head" }, element("h3", {}, named(source, everywhere)), word(source)), ...said);
  };
}

function cell(label, text, properties = {}) {
  return element("td", { role: "cell", class: text === "" ? "number none" : "number", "data-label": label, ...properties }, text);
}

function fresh(source) {
  if (source.freshPercent === "") return cell("Fresh", "");
  const filled = element("span");
  filled.style.width = `${Math.min(100, Number(source.freshPercent))}%`;
  const about = source.estimated ? "about " : "";
  const of = source.total === null ? "" : `${about}${shown(source.total)} rows`;
  return element(
    "td",
    { role: "cell", class: "number", "data-label": "Fresh" },
    element("div", { title: of }, `${source.freshPercent} %`, element("span", { class: "bar", "aria-hidden": "true" }, filled)),
  );
}

function backfill(source) {
  const running = source.backfill;
  if (!running) return element("td", { role: "cell", class: "none", "data-label": "Backfill" });
  const bar = element("progress", { max: 100, value: running.percent, "aria-label": `Backfill of ${source.name}` });
  const left = running.left ? `, ${running.left} left` : "";
  const rate = running.rowsPerSecond ? `, ${running.rowsPerSecond} rows/s` : "";
  const failed = running.failed ? `, ${shown(running.failed)} failed` : "";
  return element(
    "td",
    { role: "cell", class: "wide labelled", "data-label": "Backfill" },
    element("div", {}, bar, `${running.percent} %${left}`, element("br"), element("small", {}, `${shown(running.done)} of ${shown(running.total)} rows${rate}${failed}`)),
  );
}

export function source(everywhere) {
  return (item) =>
    element(
      "tr",
      { role: "row" },
      element("th", { role: "rowheader", scope: "row" }, named(item, everywhere), element("small", {}, item.table)),
      element("td", { role: "cell", class: "wide", "data-label": "Status" }, word(item)),
      fresh(item),
      cell("Due", shown(item.due)),
      cell("Oldest due", item.oldestDue),
      cell("Blank", shown(item.blank)),
      cell("Open jobs", shown(item.open)),
      cell("Dead letters", shown(item.deadLettered)),
      backfill(item),
    );
}

function counted(items) {
  return items.map((one) => `${shown(one.count)} ${one.name}`).join(", ");
}

export function deadLetters(everywhere, announce) {
  return (group) => {
    const atLeast = group.atLeast ? "at least " : "";
    const of = group.sources.map((one) => `${atLeast}${shown(one.count)} of ${one.name}`).join(", ");
    const place = everywhere ? ` in ${group.namespace}` : "";
    const newest = group.newest ? `, the newest ${group.newest} ago` : "";
    const more = group.count - group.rows.length;
    const rows = group.rows.flatMap((row) => [element("code", { title: row.job }, row.id), " "]);
    return element(
      "li",
      {},
      element("div", { class: "head" }, element("h3", {}, group.reason || "No reason"), element("span", { class: "quiet" }, `${of}${place}${newest}`)),
      element("p", {}, group.message),
      group.lastFailures.length ? element("p", { class: "quiet" }, `Last failures: ${atLeast && "among others "}${counted(group.lastFailures)}`) : null,
      element("p", { class: "rows" }, "Rows: ", ...rows, more > 0 ? `and ${atLeast}${shown(more)} more` : ""),
      element("p", {}, element("strong", {}, "To do: "), `${group.remedy} `, runbook(group.runbook, group.reason)),
      command(group.command, announce),
    );
  };
}

export function openJobs(everywhere) {
  return (group) => {
    const noun = group.count === 1 ? "job" : "jobs";
    const place = everywhere ? `${group.namespace}/` : "";
    const next = group.nextAttempt ? `, the next attempt in ${group.nextAttempt}` : "";
    const oldest = group.oldest ? `, the oldest ${group.oldest} old` : "";
    return element(
      "li",
      {},
      element(
        "div",
        { class: "head" },
        element("h3", {}, `${place}${group.source}`),
        element("span", {}, `${group.atLeast ? "at least " : ""}${shown(group.count)} ${group.phase} ${noun}${group.reason ? `: ${group.reason}` : ""}`),
        element("span", { class: "quiet" }, `${oldest}${next}`.replace(/^, /, "")),
      ),
      group.message ? element("p", {}, group.message) : null,
    );
  };
}
