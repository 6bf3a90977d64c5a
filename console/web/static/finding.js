// Which cameras are looked for, and in which order they stand.

import { rows } from "./store.js";

/** What the search field and the filters say. */
export const wanted = { text: "", state: "" };

const ORDER = { silent: 0, behind: 1, live: 2, paused: 3, unseen: 4 };
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

export const compareNames = (a, b) => collator.compare(a.name, b.name);

function matches(row, words) {
  const name = row.name.toLowerCase();
  return words.every((word) => name.includes(word));
}

/** Returns the rows that are looked for, in no order. */
export function found() {
  const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
  const result = [];
  for (const row of rows.values()) {
    if (wanted.state === "invalid" ? !row.invalid : wanted.state && row.state !== wanted.state) continue;
    if (matches(row, words)) result.push(row);
  }
  return result;
}

/** Sorts what needs attention first, then by name. */
export const byAttention = (a, b) => (ORDER[a.state] ?? 9) - (ORDER[b.state] ?? 9) || compareNames(a, b);

/** Returns how many cameras are in each state. */
export function counts() {
  const numbers = { "": rows.size, live: 0, silent: 0, behind: 0, paused: 0, unseen: 0, invalid: 0 };
  for (const row of rows.values()) {
    numbers[row.state] = (numbers[row.state] ?? 0) + 1;
    if (row.invalid) numbers.invalid += 1;
  }
  return numbers;
}
