// Numbers for people. Each takes null or undefined as "unknown" and returns null then.
const known = (write) => (value) => (value == null || Number.isNaN(value) ? null : write(value));
const plain = (digits) => new Intl.NumberFormat("en", { maximumFractionDigits: digits });

export const milliseconds = known((ms) => (ms < 10 ? `${plain(1).format(ms)} ms` : ms < 10_000 ? `${plain(0).format(ms)} ms` : `${plain(1).format(ms / 1000)} s`));
export const dollars = known((usd) => (usd === 0 ? "$0" : usd < 0.01 ? `$${Number(usd.toPrecision(3)).toFixed(9).replace(/0+$/, "")}` : `$${plain(2).format(usd)}`));
export const percent = known((share) => `${plain(share < 0.1 ? 1 : 0).format(100 * share)} %`);
export const count = known((n) => (n >= 10_000 ? new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(n) : plain(0).format(n)));
export const decimal = known((n) => plain(n < 10 ? 2 : 0).format(n));
