"use strict";
(() => {
  const form = document.getElementById("filters");
  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", open);
  open();
  if (!form) return;
  const rows = Array.from(document.querySelectorAll(".row"));
  const moves = rows.filter((row) => row.classList.contains("move"));
  const count = document.getElementById("count");
  const apply = () => {
    const wanted = new FormData(form);
    const host = wanted.get("host");
    const outcome = wanted.get("outcome");
    const instance = wanted.get("instance").trim().toLowerCase();
    const text = wanted.get("text").trim().toLowerCase();
    for (const row of rows) {
      const of = row.dataset;
      row.hidden = Boolean(
        (host && !of.hosts.split(" ").includes(host)) ||
        (outcome && of.outcome && of.outcome !== outcome) ||
        (instance && !of.instance.includes(instance)) ||
        (text && !of.text.includes(text)));
    }
    const shown = moves.filter((row) => !row.hidden).length;
    count.textContent = shown + " of " + moves.length + " migrations shown";
  };
  form.addEventListener("input", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
})();
