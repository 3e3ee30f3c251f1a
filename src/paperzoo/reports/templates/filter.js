const box = document.getElementById("filter");
const count = document.getElementById("count");
const entries = [...document.querySelectorAll(".entry")].map((entry) => [entry, entry.textContent.toLowerCase()]);
function filter() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const [entry, text] of entries) {
    entry.hidden = !words.every((word) => text.includes(word));
    shown += !entry.hidden;
  }
  count.textContent = `${shown} of ${entries.length} shown`;
}
box.closest(".filter").hidden = false;
box.addEventListener("input", filter);
filter();
