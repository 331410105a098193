// JSON without loss: an integer beyond 2^53, such as a 64-bit seed, stays as it was written.

class Exact {
  constructor(text) {
    this.text = text;
  }

  toString() {
    return this.text;
  }
}

/** Parses JSON. Numbers that JavaScript cannot hold become an Exact, where the browser gives their text. */
export const lossless = (text) => JSON.parse(text, (_, value, context) => {
  if (typeof value === 'number' && context?.source && !Number.isSafeInteger(value) && /^-?\d+$/.test(context.source)) return new Exact(context.source);
  return value;
});

/** Writes a value in lines, as JSON. */
export function written(value, indent = '') {
  const inner = `${indent}  `;
  if (value instanceof Exact) return value.text;
  if (Array.isArray(value)) {
    if (!value.length) return '[]';
    return `[\n${value.map((v) => inner + written(v, inner)).join(',\n')}\n${indent}]`;
  }
  if (value && typeof value === 'object') {
    const fields = Object.entries(value);
    if (!fields.length) return '{}';
    return `{\n${fields.map(([k, v]) => `${inner}${JSON.stringify(k)}: ${written(v, inner)}`).join(',\n')}\n${indent}}`;
  }
  return JSON.stringify(value);
}
