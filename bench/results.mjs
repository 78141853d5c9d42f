// What was measured, as a table.

export const LASTFRAME = 'Lastframe';
export const ALWAYS = 'BullMQ, `appendfsync always`';
export const EVERYSEC = 'BullMQ, `appendfsync everysec`';
const ARMS = [LASTFRAME, ALWAYS, EVERYSEC];

export const count = (value) => Math.round(value).toLocaleString('en-US');
export const bytes = (value) => (value >= 1e9 ? `${(value / 1e9).toFixed(2)} GB` : `${(value / 1e6).toFixed(0)} MB`);

export const plural = (value, one) => `${count(value)} ${one}${value === 1 ? '' : 's'}`;

const median = (values) => {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[sorted.length >> 1] + sorted[(sorted.length - 1) >> 1]) / 2;
};
/** The median, and the range if there is one. */
export const spread = (values, text) => {
  const [least, middle, most] = [Math.min(...values), median(values), Math.max(...values)].map(text);
  return least === most ? middle : `${middle} (${least} to ${most})`;
};
export const ms = (value) => `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`;
const times = (value) => value.toFixed(2);

export class Results {
  #rows = new Map();

  #cells(row) {
    if (!this.#rows.has(row)) this.#rows.set(row, {});
    return this.#rows.get(row);
  }

  /** One round of one arm. */
  add(row, arm, figures) {
    (this.#cells(row)[arm] ??= []).push(figures);
  }

  /** Something that was found out once. */
  note(row, arm, text) {
    this.#cells(row)[arm] = text;
  }

  /** What the one row of Lastframe costs over the other, round by round. */
  cost(row, dear, cheap) {
    const ratios = (of) => {
      const [dears, cheaps] = [dear, cheap].map((name) => this.#cells(name)[LASTFRAME].map(of));
      return spread(dears.map((value, round) => value / cheaps[round]), times);
    };
    const [time, processor] = [ratios((figures) => 1 / figures.per_second), ratios((figures) => figures.cpu_us)];
    this.note(row, LASTFRAME, `${time}; in processor time ${processor}`);
  }

  table() {
    const lines = [...this.#rows].map(([row, cells]) => [row, ...ARMS.map((arm) => cell(cells[arm])), against(cells)]);
    const head = ['', ...ARMS, 'Lastframe over `always`, round by round'];
    return [head, head.map(() => '---'), ...lines].map((line) => `| ${line.join(' | ')} |`).join('\n');
  }

  /** What share of the machine went to measuring, so that nobody need ask. */
  loadGenerator() {
    const runs = [...this.#rows.values()].flatMap((cells) => ARMS.flatMap((arm) => (Array.isArray(cells[arm]) ? cells[arm] : [])));
    const cores = runs.filter((figures) => figures.server_us !== undefined).map((figures) => figures.cores);
    return `Over HTTP the load generator took ${spread(cores, (value) => value.toFixed(2))} of a core.`;
  }
}

const cell = (content) => {
  if (!Array.isArray(content)) return content ?? '';
  const all = (name) => content.map((figures) => figures[name]).filter((value) => value !== undefined);
  const parts = [`${spread(all('per_second'), count)} /s`];
  if (all('p50_ms').length) parts.push(`p50 ${ms(median(all('p50_ms')))}, p99 ${ms(median(all('p99_ms')))}`);
  if (all('server_us').length) parts.push(`${count(median(all('server_us')))} µs of processor`);
  return parts.join('; ');
};

const against = (cells) => {
  if (!Array.isArray(cells[LASTFRAME]) || !Array.isArray(cells[ALWAYS])) return '';
  return spread(cells[LASTFRAME].map((figures, round) => figures.per_second / cells[ALWAYS][round].per_second), times);
};
