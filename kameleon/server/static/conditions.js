// Reads and changes a filter of the library: {"status": {"$in": ["open"]}, "price": {"$gte": 10}}.

import { shown } from "./texts.js";

const LIMITS = ["$gte", "$gt", "$lte", "$lt"];

/** The values that a condition on one field allows, null where it is no such condition. */
export function valuesOf(condition) {
  if (condition === undefined) return [];
  if (condition === null || typeof condition !== "object") return [condition];
  const names = Object.keys(condition);
  if (names.length === 1 && names[0] === "$in") return condition.$in;
  return names.length === 1 && names[0] === "$date" ? [condition] : null;
}

/** The bounds of a condition on one field, null where it is no range. */
export function boundsOf(condition) {
  if (condition === null || typeof condition !== "object") return null;
  const names = Object.keys(condition);
  if (!names.length || !names.every((name) => LIMITS.includes(name))) return null;
  return { from: plain(condition.$gte ?? condition.$gt), to: plain(condition.$lte ?? condition.$lt) };
}

/** A value without the mark that it is a date. */
export function plain(value) {
  return value && typeof value === "object" && "$date" in value ? value.$date : value;
}

/** The filter with another condition on a field, without one where it is undefined. */
export function withCondition(where, field, condition) {
  const { [field]: _before, ...rest } = where ?? {};
  const changed = condition === undefined ? rest : { ...rest, [field]: condition };
  return Object.keys(changed).length ? changed : null;
}

/** The filter with a value of a field allowed, or no longer. */
export function toggled(where, field, value) {
  const allowed = valuesOf(where?.[field]) ?? [];
  const text = JSON.stringify(value);
  const others = allowed.filter((one) => JSON.stringify(one) !== text);
  const left = others.length < allowed.length ? others : [...allowed, value];
  return withCondition(where, field, left.length === 0 ? undefined : left.length === 1 ? left[0] : { $in: left });
}

/** A condition as a few words. */
export function described(field, condition) {
  const values = valuesOf(condition);
  if (values) return `${field}: ${values.map((value) => shown(plain(value))).join(" or ")}`;
  const bounds = boundsOf(condition);
  if (!bounds) return field.startsWith("$") ? JSON.stringify({ [field]: condition }) : `${field} ${JSON.stringify(condition)}`;
  const { from, to } = bounds;
  const below = condition.$lt !== undefined ? "below " : "up to ";
  if (from === undefined) return `${field}: ${below}${to}`;
  return to === undefined ? `${field}: from ${from}` : `${field}: ${from} to ${condition.$lt !== undefined ? "below " : ""}${to}`;
}
